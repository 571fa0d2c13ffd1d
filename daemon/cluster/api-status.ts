/** meta/v1 Status: how the API server says no. */
import { isRawObject } from './raw-object.ts';
import type { ApiResponse } from './transport.ts';

export interface ApiStatus {
  /** HTTP status code, 0 where the Status had none. */
  readonly code: number;
  readonly message: string;
  /** From the header or from `details.retryAfterSeconds`; undefined where the server named no time. */
  readonly retryAfterSeconds: number | undefined;
}

/** Bytes of an error body that are read; a proxy may answer with a whole page. */
const BODY_LIMIT = 65_536;

/** What an error response says. Never rejects: a body that cannot be read says nothing. */
export async function statusOf(response: ApiResponse): Promise<ApiStatus> {
  const text = await textOf(response.body);
  const status = statusOfObject(parsed(text));
  const fromHeader = /^[0-9]{1,6}$/.test(response.retryAfter) ? Number(response.retryAfter) : undefined;
  return {
    code: response.status,
    message: status.message || text.replace(/\s+/g, ' ').trim().slice(0, 200),
    retryAfterSeconds: fromHeader ?? status.retryAfterSeconds,
  };
}

/** The Status object of an ERROR event. */
export function statusOfObject(raw: unknown): ApiStatus {
  const status = isRawObject(raw) ? raw : {};
  const details = isRawObject(status['details']) ? status['details'] : {};
  const seconds = details['retryAfterSeconds'];
  return {
    code: typeof status['code'] === 'number' ? status['code'] : 0,
    message: typeof status['message'] === 'string' ? status['message'] : '',
    retryAfterSeconds: typeof seconds === 'number' && seconds > 0 ? seconds : undefined,
  };
}

async function textOf(body: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const part of body) {
      parts.push(part);
      length += part.length;
      if (length >= BODY_LIMIT) break;
    }
  } catch {
    // The status line alone is what we came for.
  }
  return Buffer.concat(parts).toString('utf8');
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
