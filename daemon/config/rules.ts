/** What options ask of each other. */
import { formatAddressRange } from '../net/address-range.ts';
import { isEnabled } from './config.ts';
import type { ConfigError } from './config-error.ts';
import { formatDuration } from './duration.ts';
import { MODULE_NAMES } from './modules.ts';
import { type FlagName, keyOf, type OptionValues, optionOf } from './options.ts';
import { HOUR, SECOND } from './value-types.ts';

export interface RuleInput {
  readonly values: OptionValues;
  /** A pod finds the API server by itself. */
  readonly inCluster: boolean;
}

interface Rule {
  /** The flags it looks at: where one of them is wrong by itself, the rule says nothing. */
  readonly flags: readonly FlagName[];
  /** True for rules that only matter to what keeps a cluster in view: run and plan. */
  readonly needsCluster?: true;
  check(input: RuleInput): readonly ConfigError[];
}

/** Every fault between options, leaving out rules that touch a flag in `faulty`. */
export function checkRules(input: RuleInput, faulty: ReadonlySet<FlagName>, needsCluster: boolean): readonly ConfigError[] {
  return RULES.filter(
    rule => (needsCluster || rule.needsCluster === undefined) && !rule.flags.some(flag => faulty.has(flag)),
  ).flatMap(rule => rule.check(input));
}

function fault(flag: FlagName, { values }: RuleInput, problem: string, remedy: string): readonly ConfigError[] {
  const { type } = optionOf(flag);
  return [{ subject: `--${flag}`, ...(type.secret ? {} : { value: type.format(values[keyOf(flag)]) }), problem, remedy }];
}

const RULES: readonly Rule[] = [
  {
    flags: ['run-router', 'run-service-proxy', 'run-firewall', 'run-loadbalancer', 'announce-l2'],
    needsCluster: true,
    check: input =>
      MODULE_NAMES.some(module => isEnabled(module, input.values))
        ? []
        : fault(
            'run-service-proxy',
            input,
            'and every other module is off',
            'turn on one of --run-router, --run-service-proxy, --run-firewall, --run-loadbalancer, --announce-l2',
          ),
  },
  {
    flags: ['enable-ipv4', 'enable-ipv6'],
    check: input =>
      input.values.enableIpv4 || input.values.enableIpv6
        ? []
        : fault('enable-ipv4', input, 'leaves no address family', 'turn on --enable-ipv4 or --enable-ipv6'),
  },
  {
    flags: ['manifests', 'kubeconfig', 'master'],
    needsCluster: true,
    check: input => {
      const { manifests, kubeconfig, master } = input.values;
      if (manifests !== '' && kubeconfig + master !== '') {
        return fault(
          'manifests',
          input,
          'is given beside an API server',
          'leave out either --manifests or --kubeconfig and --master',
        );
      }
      if (manifests + kubeconfig + master !== '' || input.inCluster) return [];
      return [
        {
          subject: 'The source of Services and pods',
          problem: 'is not given, and this is no pod of a cluster',
          remedy: 'use --kubeconfig FILE or --master URL, or --manifests DIR for a directory of Kubernetes YAML',
        },
      ];
    },
  },
  {
    flags: ['take-over', 'run-service-proxy'],
    needsCluster: true,
    check: input =>
      input.values.takeOver.includes('kube-proxy') && !input.values.runServiceProxy
        ? fault('take-over', input, 'has kube-proxy, but nobody would serve its Services', 'turn on --run-service-proxy')
        : [],
  },
  ...(['service-cluster-ip-range', 'service-external-ip-range', 'loadbalancer-ip-range'] as const).map(familyRule),
  {
    flags: ['service-cluster-ip-range'],
    check: input => {
      const { length } = input.values.serviceClusterIpRange;
      return length >= 1 && length <= 2
        ? []
        : fault('service-cluster-ip-range', input, `has ${length} entries`, 'give one CIDR, or one of each family');
    },
  },
  gracefulRestartRule('bgp-graceful-restart-time', 4095 * SECOND),
  gracefulRestartRule('bgp-graceful-restart-deferral-time', 18 * HOUR),
  peerListRule('peer-router-asns', 'required'),
  peerListRule('peer-router-ports', 'optional'),
  peerListRule('peer-router-passwords', 'optional'),
  {
    flags: ['health-port', 'health-addr', 'metrics-port', 'metrics-addr'],
    check: input => {
      const { healthPort, healthAddr, metricsPort, metricsAddr } = input.values;
      if (metricsPort === 0 || metricsPort !== healthPort || metricsAddr !== healthAddr) return [];
      return fault('metrics-port', input, 'is the port of --health-port too', 'choose another port for one of them');
    },
  },
];

function familyRule(flag: 'service-cluster-ip-range' | 'service-external-ip-range' | 'loadbalancer-ip-range'): Rule {
  return {
    flags: [flag, 'enable-ipv4', 'enable-ipv6'],
    check: input => {
      const enabled = { ipv4: input.values.enableIpv4, ipv6: input.values.enableIpv6 };
      const ranges = input.values[keyOf(flag)].map(range => (typeof range === 'string' ? range : formatAddressRange(range)));
      const stray = ranges.find(range => !enabled[range.includes(':') ? 'ipv6' : 'ipv4']);
      if (stray === undefined || !(enabled.ipv4 || enabled.ipv6)) return [];
      const family = stray.includes(':') ? 'ipv6' : 'ipv4';
      return fault(
        flag,
        input,
        `has ${stray}, but --enable-${family} is off`,
        `turn on --enable-${family}, or give ranges of the other family only`,
      );
    },
  };
}

function gracefulRestartRule(flag: 'bgp-graceful-restart-time' | 'bgp-graceful-restart-deferral-time', max: number): Rule {
  return {
    flags: [flag, 'bgp-graceful-restart'],
    check: input => {
      const value = input.values[keyOf(flag)];
      if (!input.values.bgpGracefulRestart || (value > 0 && value <= max)) return [];
      return fault(flag, input, 'is out of range', `use a duration above 0s, at most ${formatDuration(max)}`);
    },
  };
}

function peerListRule(
  flag: 'peer-router-asns' | 'peer-router-ports' | 'peer-router-passwords',
  presence: 'required' | 'optional',
): Rule {
  return {
    flags: [flag, 'peer-router-ips'],
    check: input => {
      const { length } = input.values[keyOf(flag)];
      const peers = input.values.peerRouterIps.length;
      if (length === peers || (presence === 'optional' && length === 0)) return [];
      return fault(
        flag,
        input,
        `has ${length} entries, but --peer-router-ips has ${peers}`,
        'give one entry per peer, in the same order',
      );
    },
  };
}
