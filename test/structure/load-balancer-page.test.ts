/** What users of load-balancer addresses read, held against the code. */
import assert from 'node:assert/strict';
import { Projector } from '../../daemon/cluster/project.ts';
import { DIAGNOSTIC_CODES } from '../../daemon/reconcile/fragment.ts';
import { blocksOf, codeWordsOf, page, rowsOf, sectionsOf } from './pages.ts';

const PATH = 'docs/load-balancer.md';

function sectionOf(title: string): string {
  const section = sectionsOf(page(PATH)).find(each => each.title === title);
  assert.ok(section !== undefined, `${PATH} has no section '${title}'`);
  return section.prose;
}

describe(PATH, () => {
  it('shows pools that can be read, with every field that a pool has', () => {
    const [text] = blocksOf(page(PATH)).flatMap(block => (block.language === 'yaml' ? [block.text] : []));
    const metadata = { namespace: 'kube-system', name: 'fairway-address-pools' };
    const { object, complaints } = new Projector().project('ConfigMap', { metadata, data: { 'pools.yaml': text } });
    assert.deepEqual(complaints, []);
    assert.deepEqual(object?.unreadable, []);
    const explained = rowsOf(sectionOf('Pools')).flatMap(([field = '']) => codeWordsOf(field));
    const shown = explained.filter(field => text?.includes(`${field}:`));
    assert.deepEqual(shown, explained);
    // Of a pool as it is read, `ranges` are its `addresses`.
    const fields = new Set(
      object.pools.flatMap(pool => Object.keys(pool)).map(field => (field === 'ranges' ? 'addresses' : field)),
    );
    assert.deepEqual(explained.toSorted(), [...fields].toSorted());
  });

  it('explains every code that is about these addresses, and no other', () => {
    const codes = Object.keys(DIAGNOSTIC_CODES).filter(code => /^FW_(LB|LAN)_/.test(code));
    const explained = rowsOf(sectionOf('What it says')).flatMap(([code = '']) => codeWordsOf(code));
    assert.deepEqual(explained.toSorted(), codes.toSorted());
  });
});
