/** A speaker of which only the server is real: asked and stopped by Debian's `gobgp` command. For tests about the process behind it. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { FairwayError, messageOf } from '../../daemon/errors.ts';
import type { BgpServer } from '../../daemon/reconcile/routing-tables.ts';
import { bgpServer } from '../fixtures/bgp.ts';
import { FakeSpeaker } from './speaker.ts';

const run = promisify(execFile);

export async function gobgp(endpoint: string, args: readonly string[], signal?: AbortSignal): Promise<string> {
  const { stdout } = await run('gobgp', ['--target', endpoint, ...args], { ...(signal === undefined ? {} : { signal }) });
  return stdout;
}

export class GobgpCliSpeaker extends FakeSpeaker {
  readonly endpoint: string;

  constructor(endpoint: string) {
    super();
    this.endpoint = endpoint;
  }

  override async server(signal: AbortSignal): Promise<BgpServer | undefined> {
    const text = await this.#ask(['global'], signal);
    return /AS:\s+[1-9]/.test(text) ? bgpServer() : undefined;
  }

  override async stopServer(signal: AbortSignal): Promise<void> {
    await this.#ask(['global', 'del', 'all'], signal);
  }

  async #ask(args: readonly string[], signal: AbortSignal): Promise<string> {
    try {
      return await gobgp(this.endpoint, args, signal);
    } catch (thrown) {
      throw new FairwayError('FW_BGP_UNREACHABLE', messageOf(thrown), { cause: thrown });
    }
  }
}
