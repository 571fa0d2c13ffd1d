/** The project's own source files and what they import. */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import ts from 'typescript';

export const root = resolve(import.meta.dirname, '../..');

export interface Import {
  /** As written: `node:fs`, `winston`; a relative one as the path from the project's root. */
  readonly target: string;
  /** Erased at run time. */
  readonly typeOnly: boolean;
  readonly line: number;
}

export interface Source {
  /** Path from the project's root. */
  readonly path: string;
  readonly syntax: ts.SourceFile;
  readonly imports: readonly Import[];
}

/** Parses all TypeScript files under the given folders of the project. */
export function sources(...folders: readonly string[]): readonly Source[] {
  return folders
    .flatMap(folder => globSync(`${folder}/**/*.ts`, { cwd: root }))
    .sort()
    .map(path => parse(path, readFileSync(join(root, path), 'utf8')));
}

export function parse(path: string, text: string): Source {
  const syntax = ts.createSourceFile(path, text, ts.ScriptTarget.ES2024, true);
  const imports: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean): void => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return;
    const target = specifier.text.startsWith('.') ? relative(root, resolve(root, dirname(path), specifier.text)) : specifier.text;
    imports.push({ target, typeOnly, line: syntax.getLineAndCharacterOfPosition(specifier.pos).line + 1 });
  };
  visit(syntax, node => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeOnly(node));
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) add(node.arguments[0], false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
  });
  return { path, syntax, imports };
}

/** Calls `look` for the node and everything below it. */
export function visit(node: ts.Node, look: (node: ts.Node) => void): void {
  look(node);
  ts.forEachChild(node, child => {
    visit(child, look);
  });
}

function isTypeOnly({ importClause }: ts.ImportDeclaration): boolean {
  if (importClause === undefined) return false;
  if (importClause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  const { name, namedBindings } = importClause;
  return (
    name === undefined &&
    namedBindings !== undefined &&
    ts.isNamedImports(namedBindings) &&
    namedBindings.elements.every(element => element.isTypeOnly)
  );
}
