/** The daemon's metrics page, as Prometheus asks for it. */
import { get } from 'node:http';

export function scrape(address: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(`http://${address}:${port}/metrics`, response => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.once('end', () => resolve(text));
    });
    request.once('error', reject);
  });
}
