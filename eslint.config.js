// Rules that need types, and the rules of this house. Formatting and the fast syntactic rules are biome's (biome.json).
import eslint from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** What biome reports already, or the compiler. */
const REPORTED_ELSEWHERE = [
  '@typescript-eslint/no-explicit-any',
  '@typescript-eslint/no-unused-vars',
  '@typescript-eslint/no-empty-function',
  '@typescript-eslint/no-inferrable-types',
  '@typescript-eslint/no-namespace',
  '@typescript-eslint/no-non-null-assertion',
  '@typescript-eslint/no-this-alias',
  '@typescript-eslint/no-useless-constructor',
  '@typescript-eslint/prefer-as-const',
  '@typescript-eslint/prefer-function-type',
  '@typescript-eslint/prefer-optional-chain',
  'no-control-regex',
  'no-debugger',
  'no-empty',
  'no-empty-pattern',
  'no-fallthrough',
  'no-unused-vars',
  'no-useless-catch',
  'no-useless-escape',
  'no-var',
  'prefer-const',
];

const MUTABLE_STATE = [
  {
    selector: 'Program > :matches(VariableDeclaration, ExportNamedDeclaration > VariableDeclaration)[kind="let"]',
    message: 'No mutable state in a module: make it a field of something that is constructed.',
  },
  {
    selector:
      'Program > :matches(VariableDeclaration, ExportNamedDeclaration > VariableDeclaration) > VariableDeclarator:not([id.typeAnnotation]) > NewExpression[callee.name=/^(Map|Set|WeakMap|WeakSet)$/]',
    message:
      'A table at module level is a ReadonlyMap or ReadonlySet by its annotation; state is a field of something that is constructed.',
  },
];

const NO_DEFAULT_EXPORT = { selector: 'ExportDefaultDeclaration', message: 'Export by name: the name is the same everywhere.' };

const CLOCK_AND_CHANCE = [
  {
    selector:
      ':matches(NewExpression[callee.name="Date"][arguments.length=0], MemberExpression[object.name="Date"][property.name="now"])',
    message: 'The clock is a constructor parameter.',
  },
  { selector: 'MemberExpression[object.name="Math"][property.name="random"]', message: 'Randomness is a constructor parameter.' },
];

/** The edges: where the clock, randomness, the environment and exit statuses come from. */
const EDGES = ['daemon/main.ts', 'daemon/daemon.ts', 'daemon/wiring.ts', 'daemon/commands/**', 'daemon/**/*clock.ts'];

export default defineConfig(
  { ignores: ['node_modules/', 'dist/', 'coverage/', 'daemon/bgp/proto/'] },
  {
    files: ['**/*.ts'],
    extends: [eslint.configs.recommended, tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      ...Object.fromEntries(REPORTED_ELSEWHERE.map(rule => [rule, 'off'])),
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        {
          allowDefaultCaseForExhaustiveSwitch: false,
          considerDefaultExhaustiveForUnions: false,
          requireDefaultForNonUnion: true,
        },
      ],
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // An empty string from the environment or a flag is as good as none.
      '@typescript-eslint/prefer-nullish-coalescing': ['error', { ignorePrimitives: { string: true } }],
      // A type alias of an object is assignable to an index signature, an interface is not: both have their place.
      '@typescript-eslint/consistent-type-definitions': 'off',
      '@typescript-eslint/consistent-indexed-object-style': 'off',
      // An arrow around a call that returns nothing is the shortest way to say so.
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidOperator: true, ignoreVoidReturningFunctions: true },
      ],
      // noPropertyAccessFromIndexSignature wants what this forbids.
      '@typescript-eslint/dot-notation': 'off',
      'no-restricted-syntax': ['error', NO_DEFAULT_EXPORT],
    },
  },
  { files: ['daemon/**/*.ts'], rules: { 'no-restricted-syntax': ['error', NO_DEFAULT_EXPORT, ...MUTABLE_STATE] } },
  {
    files: ['daemon/**/*.ts'],
    ignores: EDGES,
    rules: { 'no-restricted-syntax': ['error', NO_DEFAULT_EXPORT, ...MUTABLE_STATE, ...CLOCK_AND_CHANCE] },
  },
  {
    files: ['modules/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        NO_DEFAULT_EXPORT,
        ...MUTABLE_STATE,
        { selector: ':function[async=true]', message: 'A module is a pure function: nothing in it waits.' },
        { selector: 'MemberExpression[object.name="Math"][property.name="random"]', message: 'A plan has no chance in it.' },
      ],
      'no-restricted-globals': ['error', 'Date', 'process', 'setTimeout', 'setInterval', 'performance', 'fetch'],
      'no-restricted-imports': [
        'error',
        { patterns: [{ regex: '^node:', message: 'A module sees the snapshot and nothing else.' }] },
      ],
    },
  },
  // mocha takes a reporter from a file by its default export only.
  { files: ['test/reporter.ts'], rules: { 'no-restricted-syntax': 'off' } },
  {
    files: ['test/**/*.ts'],
    rules: {
      // mocha's describe and it return nothing to await; assertions narrow what the compiler cannot know.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/require-await': 'off',
      // Fixtures are closures: taking them apart is how tests use them.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-invalid-void-type': 'off',
    },
  },
);
