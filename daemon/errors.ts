/** The catalogue of error codes, and the one error class that carries them. Match on `code`, never on text. */

export const ERROR_CODES = {
  FW_CONFIG_INVALID: 'A flag, environment variable or combination of them is wrong; all are listed at once. Exit status 78.',
  FW_CONFIG_KUBECONFIG: 'The kubeconfig cannot be used: the message names the file, the field and the remedy. Exit status 78.',
  FW_CAPABILITY_TOOL_MISSING: 'A tool that an enabled module needs is not installed; the message names the package.',
  FW_CAPABILITY_KERNEL: 'The kernel lacks a facility that an enabled module needs; the message names the option or module.',
  FW_CAPABILITY_PRIVILEGE: 'We are not root and cannot change the network of the host.',
  FW_HOST_SECOND_DAEMON: 'Another fairway runs on this node; the message names its process. Exit status 1.',
  FW_DAEMON_ABSENT: 'A command asks the running daemon, and none answers on its socket.',
  FW_DAEMON_REFUSED: 'The running daemon refused what a command asked of it; the message is its own.',
  FW_API_UNREACHABLE: 'The API server cannot be reached; what is programmed stays, listing goes on being tried.',
  FW_API_DENIED: 'The API server refuses our credentials (401) or a verb (403); the message names verb and resource.',
  FW_API_PROTOCOL: 'The API server answered something that is not its API; the connection is made anew.',
  FW_MANIFESTS: 'The folder of --manifests, or a file in it, cannot be read; what it held before stays.',
  FW_STATE_FILE:
    'A file in which the daemon keeps what a reboot must not take cannot be read or written; the message names it and the remedy.',
  FW_POOLS_FILE: 'The file of --loadbalancer-pools cannot be read; the pools it held before stay.',
  FW_COMMAND_FAILED: 'A tool ended with an error; the message holds what it said.',
  FW_COMMAND_TIMEOUT: 'A tool did not end in time and was killed.',
  FW_COMMAND_REFUSED: 'The kernel refused one entry; the message names the entry and what the tool said of it.',
  FW_LAN_DUPLICATE: 'Another host of the local network answers for an address that this node announces; the message names both.',
  FW_BGP_UNREACHABLE: 'gobgpd does not answer; it is started again or called again, what BGP taught us stays in force meanwhile.',
  FW_BGP_REFUSED: 'gobgpd refused one entry; the message names the entry and what it said of it.',
  FW_PLAN_FAILED: 'A module threw while planning (a defect): its last plan stays in force.',
  FW_READ_UNPARSABLE: 'A tool printed what we cannot read; the table is left as it is and read again later.',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An error of the catalogue. `message` is for operators: it names the object and the remedy. */
export class FairwayError extends Error {
  override readonly name = 'FairwayError';
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The message of anything thrown, on one line. */
export function messageOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text.replace(/\s*\n\s*/g, '; ').trim();
}

/** An error of the catalogue as it is; anything else thrown under this code. */
export function asFairwayError(thrown: unknown, code: ErrorCode): FairwayError {
  return thrown instanceof FairwayError ? thrown : new FairwayError(code, messageOf(thrown), { cause: thrown });
}
