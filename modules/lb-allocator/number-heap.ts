/** Numbers of which the least is wanted again and again (a binary heap), each once. */

export class NumberHeap {
  readonly #numbers: bigint[] = [];
  readonly #members = new Set<bigint>();

  push(number: bigint): void {
    if (this.#members.has(number)) return;
    this.#members.add(number);
    let index = this.#numbers.push(number) - 1;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      if (this.#at(parent) <= number) break;
      this.#numbers[index] = this.#at(parent);
      index = parent;
    }
    this.#numbers[index] = number;
  }

  least(): bigint | undefined {
    return this.#numbers[0];
  }

  dropLeast(): void {
    const least = this.#numbers[0];
    const last = this.#numbers.pop();
    if (least === undefined || last === undefined) return;
    this.#members.delete(least);
    if (this.#numbers.length > 0) this.#sink(last);
  }

  /** Puts the number at the top, and below what is less. */
  #sink(number: bigint): void {
    const size = this.#numbers.length;
    let index = 0;
    for (let child = 1; child < size; child = index * 2 + 1) {
      const lesser = child + 1 < size && this.#at(child + 1) < this.#at(child) ? child + 1 : child;
      if (this.#at(lesser) >= number) break;
      this.#numbers[index] = this.#at(lesser);
      index = lesser;
    }
    this.#numbers[index] = number;
  }

  #at(index: number): bigint {
    return this.#numbers[index] ?? 0n;
  }
}
