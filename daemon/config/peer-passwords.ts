/** The TCP MD5 passwords of the external peers: of the flag, or of the file that another one names. */
import { FairwayError, messageOf } from '../errors.ts';
import type { Secret } from '../net/secret.ts';
import type { OptionValues } from './options.ts';
import { passwordList } from './value-types.ts';

/**
 * One a peer, or none at all. Rejects with FW_CONFIG_INVALID where the file cannot be used; the message quotes nothing of it.
 */
export async function readPeerPasswords(
  config: Pick<OptionValues, 'peerRouterPasswords' | 'peerRouterPasswordsFile' | 'peerRouterIps'>,
  readFile: (path: string) => Promise<string>,
): Promise<readonly Secret[]> {
  const { peerRouterPasswords: given, peerRouterPasswordsFile: path, peerRouterIps: peers } = config;
  if (given.length > 0 || path === '') return given;
  const refuse = (problem: string): FairwayError =>
    new FairwayError('FW_CONFIG_INVALID', `--peer-router-passwords-file ${path} ${problem}`);
  const text = await readFile(path).catch((thrown: unknown) => {
    throw refuse(`cannot be read: ${messageOf(thrown)}`);
  });
  const parsed = passwordList.parse(text.trim());
  if (!parsed.ok) throw refuse(`${parsed.problem}: ${parsed.remedy}`);
  if (parsed.value.length !== peers.length)
    throw refuse(
      `has ${parsed.value.length} entries, but --peer-router-ips has ${peers.length}: give one per peer, in the same order`,
    );
  return parsed.value;
}
