/** One way to the API server, HTTP/2 or HTTP/1.1. */
import type { ApiRequest, ApiResponse } from './transport.ts';

export interface Connection {
  /** Rejects with FW_API_UNREACHABLE where it is lost before the response. */
  request(request: ApiRequest, headers: Readonly<Record<string, string>>): Promise<ApiResponse>;
  /** False once it takes no new requests. */
  isUsable(): boolean;
  /** Takes no new requests and closes when the running ones have ended. */
  retire(): void;
  /** Closes now, whatever runs. */
  close(): void;
}
