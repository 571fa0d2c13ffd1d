import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MarkBook, MOST_MARKS } from '../../../modules/services/mark-book.ts';

interface Claim {
  readonly key: string;
  readonly since: number;
}

function bookOf(claims: readonly Claim[]): MarkBook {
  const book = new MarkBook();
  for (const { key, since } of claims) book.claim(key, since);
  book.settle();
  return book;
}

function numbersOf(book: MarkBook, claims: readonly Claim[]): Readonly<Record<string, number | undefined>> {
  return Object.fromEntries(claims.map(({ key }) => [key, book.numberOf(key)]));
}

const portOf = (number: number): string => `default/web-${number} TCP 80`;

/** Keys whose first choice is one number: alone, each would have it. */
function rivals(count: number): readonly string[] {
  const byNumber = new Map<number, string[]>();
  for (let number = 0; ; number++) {
    const key = portOf(number);
    const home = bookOf([{ key, since: 0 }]).numberOf(key) ?? 0;
    const others = byNumber.get(home) ?? [];
    byNumber.set(home, [...others, key]);
    if (others.length + 1 === count) return [...others, key];
  }
}

const RIVALS = rivals(4);
const [FIRST = '', SECOND = '', THIRD = '', FOURTH = ''] = RIVALS;

/** Few keys of few ages, most of which want one number. */
const arbitraryClaims: fc.Arbitrary<readonly Claim[]> = fc.uniqueArray(
  fc.record({ key: fc.constantFrom(...RIVALS, ...[1, 2, 3, 4].map(portOf)), since: fc.integer({ min: 0, max: 3 }) }),
  { selector: ({ key }) => key, maxLength: 8 },
);

describe('the numbers of virtual services that are found by mark', () => {
  it('are 1 to 4095, each given once', () => {
    assert.equal(MOST_MARKS, 4095);
    const claims = Array.from({ length: MOST_MARKS }, (_, number) => ({ key: portOf(number), since: number }));
    const book = bookOf(claims);
    const numbers = claims.map(({ key }) => book.numberOf(key) ?? 0).sort((a, b) => a - b);
    assert.deepEqual(
      numbers,
      Array.from({ length: MOST_MARKS }, (_, index) => index + 1),
    );
  });

  it('are the same for the same claims, whatever their order and whatever was there in between', () => {
    fc.assert(
      fc.property(arbitraryClaims, arbitraryClaims, fc.gen(), (claims, others, gen) => {
        const wanted = numbersOf(bookOf(claims), claims);
        const shuffled = gen(() => fc.shuffledSubarray([...claims], { minLength: claims.length }));
        assert.deepEqual(numbersOf(bookOf(shuffled), claims), wanted);
        const book = new MarkBook();
        const strangers = others.filter(({ key }) => claims.every(claim => claim.key !== key));
        for (const { key, since } of [...strangers, ...shuffled]) {
          book.claim(key, since);
          if (gen(fc.boolean)) book.settle();
        }
        for (const { key } of strangers) {
          book.release(key);
          if (gen(fc.boolean)) book.settle();
        }
        book.settle();
        assert.deepEqual(numbersOf(book, claims), wanted);
        for (const { key } of strangers) assert.equal(book.numberOf(key), undefined, key);
      }),
      { numRuns: 500 },
    );
  });

  it('are not moved by a younger claim', () => {
    fc.assert(
      fc.property(arbitraryClaims, arbitraryClaims, (claims, others) => {
        const book = bookOf(claims);
        const before = numbersOf(book, claims);
        for (const { key } of others) if (claims.every(claim => claim.key !== key)) book.claim(key, 4);
        book.settle();
        assert.deepEqual(numbersOf(book, claims), before);
      }),
    );
  });

  it('go to the older of two that want one, and of two of one age to the first by name', () => {
    const home = bookOf([{ key: FIRST, since: 0 }]).numberOf(FIRST) ?? 0;
    const next = (home % MOST_MARKS) + 1;
    const older = { key: SECOND, since: 1 };
    const younger = { key: FIRST, since: 2 };
    assert.deepEqual(numbersOf(bookOf([younger, older]), [older, younger]), { [SECOND]: home, [FIRST]: next });
    const twins = [FIRST, SECOND].sort().map(key => ({ key, since: 1 }));
    assert.deepEqual(Object.values(numbersOf(bookOf([...twins].reverse()), twins)), [home, next]);
  });

  it('come free when they are released, for those that stood aside', () => {
    const claims = [FIRST, SECOND, THIRD].map((key, since) => ({ key, since }));
    const book = bookOf(claims);
    const home = book.numberOf(FIRST);
    book.release(FIRST);
    book.settle();
    assert.deepEqual([FIRST, SECOND, THIRD].map(key => book.numberOf(key)).slice(0, 2), [undefined, home]);
    book.claim(FOURTH, 9);
    book.settle();
    const rest = [SECOND, THIRD, FOURTH].map((key, since) => ({ key, since }));
    assert.deepEqual(numbersOf(book, rest), numbersOf(bookOf(rest), rest));
    book.release(FIRST);
    assert.deepEqual([...book.settle()], []);
  });

  it('run out: the older ones keep theirs, the others have none until one comes free', () => {
    const claims = Array.from({ length: MOST_MARKS + 5 }, (_, number) => ({ key: portOf(number), since: number }));
    const book = bookOf([...claims].reverse());
    const without = (): readonly string[] => claims.filter(({ key }) => book.numberOf(key) === undefined).map(({ key }) => key);
    assert.deepEqual(
      without(),
      claims.slice(MOST_MARKS).map(({ key }) => key),
    );
    const before = numbersOf(book, claims.slice(0, MOST_MARKS));
    book.claim('default/late TCP 80', 99_999);
    book.settle();
    assert.equal(book.numberOf('default/late TCP 80'), undefined);
    assert.deepEqual(numbersOf(book, claims.slice(0, MOST_MARKS)), before);
    book.release(portOf(MOST_MARKS - 1));
    book.settle();
    assert.ok(book.numberOf(portOf(MOST_MARKS)) !== undefined);
    assert.deepEqual(without(), [MOST_MARKS - 1, ...[1, 2, 3, 4].map(more => MOST_MARKS + more)].map(portOf));
  });

  it('settle tells exactly the keys that are still claimed and whose number is another than before', () => {
    fc.assert(
      fc.property(arbitraryClaims, fc.array(arbitraryClaims, { maxLength: 6 }), (claims, steps) => {
        const book = bookOf(claims);
        let former = claims;
        for (const wanted of steps) {
          const before = numbersOf(book, former);
          const isKept = ({ key, since }: Claim): boolean => wanted.some(claim => claim.key === key && claim.since === since);
          for (const claim of former) if (!isKept(claim)) book.release(claim.key);
          for (const claim of wanted)
            if (!former.some(({ key, since }) => key === claim.key && since === claim.since)) book.claim(claim.key, claim.since);
          const told = [...book.settle()].filter(key => wanted.some(claim => claim.key === key)).sort();
          const now = numbersOf(book, wanted);
          const moved = wanted.map(({ key }) => key).filter(key => now[key] !== before[key]);
          assert.deepEqual(told, moved.sort());
          former = wanted;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('settle tells a key that lost its number to an older one, too', () => {
    const claims = Array.from({ length: MOST_MARKS }, (_, number) => ({ key: portOf(number), since: 1 + number }));
    const book = bookOf(claims);
    const before = numbersOf(book, claims);
    book.claim('default/old TCP 80', 0);
    const told = [...book.settle()].sort();
    const now = numbersOf(book, claims);
    assert.deepEqual(
      claims.map(({ key }) => key).filter(key => now[key] === undefined),
      [portOf(MOST_MARKS - 1)],
    );
    const moved = claims.map(({ key }) => key).filter(key => now[key] !== before[key]);
    assert.deepEqual(told, ['default/old TCP 80', ...moved].sort());
  });

  it('settle tells a key once', () => {
    const book = new MarkBook();
    book.claim(FIRST, 1);
    assert.deepEqual([...book.settle()], [FIRST]);
    assert.deepEqual([...book.settle()], []);
    book.claim(SECOND, 0);
    assert.deepEqual([...book.settle()].sort(), [FIRST, SECOND].sort());
    book.release(SECOND);
    // Of what is not claimed any more it may say whatever it likes.
    assert.deepEqual(
      [...book.settle()].filter(key => key !== SECOND),
      [FIRST],
    );
  });
});
