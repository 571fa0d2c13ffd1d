import assert from 'node:assert/strict';
import ts from 'typescript';
import { parse, type Source, sources, visit } from './sources.ts';

/** Names that reach past what a planner was given. `globalThis` would be a way round the others. */
const IMPURE_NAMES = new Set([
  ...['process', 'Date', 'globalThis', 'performance', 'crypto', 'console', 'fetch', 'require', 'eval', 'Function'],
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'Promise', 'Buffer'],
]);

function impurities({ path, syntax }: Source): readonly string[] {
  const found: string[] = [];
  visit(syntax, node => {
    const what = impurityOf(node);
    if (what !== undefined) found.push(`${path}:${syntax.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${what}`);
  });
  return found;
}

function impurityOf(node: ts.Node): string | undefined {
  if (node.kind === ts.SyntaxKind.AsyncKeyword) return 'async';
  if (ts.isAwaitExpression(node)) return 'await';
  if (ts.isPropertyAccessExpression(node) && node.getText() === 'Math.random') return 'Math.random';
  if (ts.isIdentifier(node) && IMPURE_NAMES.has(node.text) && isReference(node)) return node.text;
  return undefined;
}

/** Not the name of a member, a property of an object literal, or a type. */
function isReference(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isPropertyAssignment(parent) || ts.isPropertySignature(parent) || ts.isMethodDeclaration(parent))
    return parent.name !== node;
  return !ts.isTypeReferenceNode(parent) && !ts.isQualifiedName(parent);
}

describe('modules, and what explains their work', () => {
  it('are pure: no clock, randomness, process or promise', () => {
    assert.deepEqual(sources('modules', 'daemon/explain').flatMap(impurities), []);
  });

  it('are found out when they are not', () => {
    const impure = [
      'Date.now()',
      'new Date()',
      'Math.random()',
      "process.env['X']",
      'async () => 1',
      'setTimeout(f, 1)',
      'globalThis.x',
      'f(process)',
    ];
    for (const code of impure) assert.equal(impurities(parse('modules/x/a.ts', `const x = ${code};`)).length, 1, code);
    const pure = ['a.process', '{ Date: 1 }', 'Math.max(1, 2)', "'process'"];
    for (const code of pure) assert.deepEqual(impurities(parse('modules/x/a.ts', `const x = ${code};`)), [], code);
  });
});
