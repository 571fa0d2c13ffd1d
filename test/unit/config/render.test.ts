import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { formatDuration } from '../../../daemon/config/duration.ts';
import { FLAG_NAMES, type FlagName, keyOf, type OptionValues, optionOf } from '../../../daemon/config/options.ts';
import { parseArguments } from '../../../daemon/config/parse.ts';
import { printableArguments, renderArguments } from '../../../daemon/config/render.ts';
import { ALL_BUILT, accepted, IN_CLUSTER } from './command-line.ts';

/** Texts that a flag of the type might be given; some are refused, which the property allows. */
function textsOf(flag: FlagName): fc.Arbitrary<string> {
  const { label } = optionOf(flag).type;
  const octet = fc.nat(255);
  const address = fc.oneof(
    fc.tuple(octet, octet, octet, octet).map(parts => parts.join('.')),
    fc.ipV6(),
  );
  const list = (entry: fc.Arbitrary<string>): fc.Arbitrary<string> =>
    fc.array(entry, { maxLength: 3 }).map(entries => entries.join(','));
  switch (label) {
    case 'bool':
      return fc.constantFrom('true', 'false', 'T', '0');
    case 'duration':
      return fc.nat(10 ** 8).map(formatDuration);
    case 'CIDRs':
      return list(fc.tuple(address, fc.nat(32)).map(([text, bits]) => `${text}/${bits}`));
    case 'IPs':
      return list(address);
    case 'uints':
      return list(fc.integer({ min: 64512, max: 65534 }).map(String));
    case 'base64s':
      return list(fc.string({ minLength: 1 }).map(word => Buffer.from(word).toString('base64')));
    case 'first-last':
      return fc.tuple(fc.nat(65535), fc.nat(65535)).map(ports => ports.join('-'));
    case 'level':
      return fc.nat(10).map(String);
    default:
      if (label.startsWith('uint')) return fc.nat(70_000).map(String);
      return label.includes('|')
        ? fc.constantFrom(...label.split('|'))
        : fc.oneof(fc.string(), fc.constantFrom('/x', '10.0.0.1', '127.0.0.1:1'));
  }
}

const SETTABLE = FLAG_NAMES.filter(flag => !['help', 'version', 'cleanup-config', 'enable-ipv6'].includes(flag));

/** Values for some flags, those of them that stand alone each. */
const commandLines = fc
  .subarray([...SETTABLE])
  .chain(flags => fc.tuple(...flags.map(flag => textsOf(flag).map(text => `--${flag}=${text}`))))
  .map(argv =>
    ['cleanup', '--enable-ipv6', ...argv].filter(
      argument => parseArguments(['cleanup', '--enable-ipv6', argument], {}).kind === 'run',
    ),
  );

const revealed = (values: OptionValues): unknown => ({
  ...Object.fromEntries(FLAG_NAMES.map(flag => [flag, values[keyOf(flag)]])),
  'peer-router-passwords': values.peerRouterPasswords.map(secret => secret.reveal()),
});

describe('a configuration written out as a command line', () => {
  it('is read back as the same configuration', () => {
    let runs = 0;
    fc.assert(
      fc.property(commandLines, argv => {
        const first = parseArguments(argv, IN_CLUSTER, ALL_BUILT);
        if (first.kind !== 'run') return;
        runs++;
        const second = parseArguments(['cleanup', ...renderArguments(first.config)], IN_CLUSTER, ALL_BUILT);
        assert.ok(second.kind === 'run');
        assert.deepEqual(revealed(second.config), revealed(first.config));
      }),
      { numRuns: 200 },
    );
    assert.ok(runs > 20, `only ${runs} of 200 command lines were valid`);
  });

  it('leaves out what is at its default', () => {
    assert.deepEqual(renderArguments(accepted(['--v=0', '--run-router=true', '--run-firewall=F', '--audit-period=90s']).config), [
      '--run-firewall=false',
      '--audit-period=1m30s',
    ]);
  });

  it('hides passwords wherever the configuration is printed', () => {
    const { config } = accepted(['--peer-router-ips=10.0.0.1', '--peer-router-asns=65000', '--peer-router-passwords=c2VjcmV0']);
    assert.equal(config.peerRouterPasswords[0]?.reveal(), 'secret');
    assert.ok(printableArguments(config).includes('--peer-router-passwords=[hidden]'));
    for (const text of [
      printableArguments(config).join(' '),
      JSON.stringify(config),
      inspect(config, { depth: 9 }),
      config.peerRouterPasswords.map(String).join(' '),
    ]) {
      assert.doesNotMatch(text, /secret|c2VjcmV0/);
    }
  });
});
