/** 10027-06: whether an agent asks from where its person is. HTTP-02: who counts as one caller. */
import t from 'tap'
import { areNeighbours, countedNetwork } from '../../src/domain/network.js'

t.test(
  'neighbours share an IPv4 /24 or an IPv6 /48; what cannot be compared is neither',
  async (t) => {
    const table: [string | null, string | null, boolean | undefined][] = [
      ['192.0.2.7', '192.0.2.7', true],
      ['192.0.2.7', '192.0.2.254', true],
      ['192.0.2.7', '192.0.3.7', false],
      ['192.0.2.7', '19.20.2.7', false],
      ['2001:db8:1::1', '2001:db8:1:ffff::2', true],
      ['2001:db8:1::1', '2001:DB8:0001:0::', true],
      ['2001:db8:1::1', '2001:db8:2::1', false],
      ['2001:db8::1', '2001:db8:0:1:2:3:4:5', true],
      ['2001:db8:1:2:3:4:5:6', '2001:db8:1:9::', true],
      ['::1', '::1', true],
      ['::1', 'fe80::1', false],
      ['::ffff:192.0.2.7', '192.0.2.9', true],
      ['::ffff:c000:207', '192.0.2.9', true],
      ['0:0:0:0:0:ffff:192.0.2.7', '::FFFF:192.0.2.8', true],
      ['::ffff:192.0.3.7', '192.0.2.9', false],
      ['::fffe:192.0.2.7', '192.0.2.9', undefined],
      ['192.0.2.7', '2001:db8::1', undefined],
      ['127.0.0.1', '::1', undefined],
      [null, '192.0.2.7', undefined],
      ['192.0.2.7', null, undefined],
      [null, null, undefined],
      ['', '', undefined],
      ['unknown', 'unknown', undefined],
      ['fe80::1%eth0', 'fe80::1%eth0', undefined],
      ['192.0.2', '192.0.2', undefined],
    ]
    for (const [one, other, expected] of table) {
      t.equal(areNeighbours(one, other), expected, `${one} and ${other}`)
      t.equal(areNeighbours(other, one), expected, `${other} and ${one}`)
    }
  },
)

t.test('HTTP-02: limits count an IPv4 address, or an IPv6 /64 in one spelling', async (t) => {
  const table: [string | undefined, string][] = [
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::FFFF:c000:207', '192.0.2.7'],
    ['0:0:0:0:0:ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:0001:0002::', '2001:db8:1:2::/64'],
    ['2001:db8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:db8:1:3::', '2001:db8:1:3::/64'],
    ['::1', '0:0:0:0::/64'],
    ['unknown', 'unknown'],
    ['', 'unknown'],
    [undefined, 'unknown'],
  ]
  for (const [address, network] of table) t.equal(countedNetwork(address), network, `${address}`)
})
