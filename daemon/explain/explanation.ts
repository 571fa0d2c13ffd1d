/** What became of a packet and why, as a value for JSON and as text for a terminal. */
import type { IpAddress } from '../net/address.ts';

export type Outcome =
  | 'allowed'
  /** Some endpoints answer, others do not. */
  | 'partly'
  | 'denied'
  | 'refused'
  | 'dropped'
  | 'unreachable'
  /** Nobody outside is told the way to the address. */
  | 'withdrawn'
  /** The address serves another, older Service. */
  | 'lost'
  /** What would decide it is not in the kernel: a try failed. */
  | 'failing'
  /** What would decide it is not in the kernel yet. */
  | 'pending'
  /** Nobody here serves the address, although a Service has it. */
  | 'unserved'
  /** Another node's kernel decides. */
  | 'elsewhere';

export interface Verdict {
  readonly outcome: Outcome;
  readonly reason: string;
}

/**
 * - `ok`: as it should be, and the packet goes on.
 * - `stops`: the packet goes no further.
 * - `missing`: wanted, and not in the kernel.
 * - `differs`: in the kernel otherwise than wanted.
 * - `failing`: wanted, and the kernel or a tool refused it.
 * - `expected`: another node's kernel decides; read off the objects.
 * - `unknown`: not ours to know.
 * - `warning`: a complaint about an object.
 */
export type StepState = 'ok' | 'stops' | 'missing' | 'differs' | 'failing' | 'expected' | 'unknown' | 'warning';

export interface Step {
  readonly what: string;
  /** Entries as the tools print them. */
  readonly kernel?: readonly string[];
  /** Owners of the entries, and other objects it is about: `Service default/web`. */
  readonly objects?: readonly string[];
  readonly note?: string;
  readonly state: StepState;
}

/** One end of the packet's way. */
export interface EndpointAnswer {
  readonly address: IpAddress;
  /** As it arrives there; 0 for protocols without ports. */
  readonly port: number;
  /** The client's address as it is seen there. */
  readonly source: IpAddress;
  readonly verdict: Verdict;
}

/** What policies say of one end in one direction. */
export interface Judgement {
  readonly direction: 'ingress' | 'egress';
  /** The pod whose policies judge; '' for an address of which no pod is known. */
  readonly pod: string;
  readonly address: IpAddress;
  /** `kernel`: this node's entries; `objects`: what the objects make another node do. */
  readonly by: 'kernel' | 'objects';
  readonly isAllowed: boolean;
}

export interface Explanation {
  readonly verdict: Verdict;
  /** The verdict in one line. */
  readonly summary: string;
  readonly steps: readonly Step[];
  /** Where the packet may end. */
  readonly endpoints: readonly EndpointAnswer[];
  readonly judgements: readonly Judgement[];
}

const MARK: Readonly<Record<StepState, string>> = {
  ok: '',
  stops: ' [stops here]',
  missing: ' [not in the kernel]',
  differs: ' [differs]',
  failing: ' [failing]',
  expected: ' [expected]',
  unknown: ' [not known]',
  warning: ' [warning]',
};

/** The verdict, then the steps with their kernel entries. Ends with a newline. */
export function explanationText({ summary, steps }: Explanation): string {
  const lines = steps.flatMap(({ what, kernel = [], objects = [], note, state }, index) => [
    `${String(index + 1).padStart(2)}. ${what}${MARK[state]}`,
    ...kernel.map(line => `      ${line}`),
    ...(objects.length === 0 ? [] : [`    for ${objects.join(', ')}`]),
    ...(note === undefined ? [] : note.split('\n').map(line => `    ${line}`)),
  ]);
  return `${[summary, ...lines].join('\n')}\n`;
}

/** The first word says how it ends, but for what another node decides. */
export function summaryOf({ outcome, reason }: Verdict): string {
  switch (outcome) {
    case 'elsewhere':
      return `decided ${reason}`;
    case 'denied':
      return `denied ${reason}`;
    case 'allowed':
    case 'partly':
    case 'refused':
    case 'dropped':
    case 'unreachable':
    case 'withdrawn':
    case 'lost':
    case 'failing':
    case 'pending':
    case 'unserved':
      return `${outcome}: ${reason}`;
  }
}
