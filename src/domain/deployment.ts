/** The error text when the database belongs to another issuer. */

export function otherDeployment(issuer: string): string {
  return `The database belongs to ${issuer}, and ISSUER is another. All its replicas must have the same one; docs/operating.md says how a deployment moves to another address`
}
