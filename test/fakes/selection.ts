/** Label and field selectors of lists and watches, as far as reflectors send them. */

/** What selectors look at in one object. */
export interface Selectable {
  readonly labels: Readonly<Record<string, string>>;
  /** By the API's names for them, such as `status.phase`. */
  readonly fields: Readonly<Record<string, string>>;
}

/** The test of a request's `labelSelector` and `fieldSelector`. Fields that an object does not offer select nothing. */
export function selectionOf(query: URLSearchParams): (object: Selectable) => boolean {
  const labels = termsOf(query.get('labelSelector')).map(labelTest);
  const fields = termsOf(query.get('fieldSelector')).map(fieldTest);
  return object => labels.every(test => test(object)) && fields.every(test => test(object));
}

function termsOf(selector: string | null): readonly string[] {
  return (selector ?? '').split(',').filter(term => term !== '');
}

/** `key`, `!key` and `key=value`. */
function labelTest(term: string): (object: Selectable) => boolean {
  if (term.startsWith('!')) return ({ labels }) => labels[term.slice(1)] === undefined;
  const [key = '', value] = term.split('=');
  return ({ labels }) => (value === undefined ? labels[key] !== undefined : labels[key] === value);
}

/** `field=value` and `field!=value`. */
function fieldTest(term: string): (object: Selectable) => boolean {
  const [, field = '', operator, value] = /^([^!=]+)(!=|=)(.*)$/.exec(term) ?? [];
  return ({ fields }) => fields[field] !== undefined && (fields[field] === value) === (operator === '=');
}
