/** A page of metrics, as a reader gets it: piece by piece. */
export async function piecesOf(page: { pieces(): AsyncIterable<string> }): Promise<readonly string[]> {
  const pieces: string[] = [];
  for await (const piece of page.pieces()) pieces.push(piece);
  return pieces;
}
