/** The version, put in by the build; from the sources it is a development one. */

declare const __FAIRWAY_VERSION__: string | undefined;

export const VERSION: string = typeof __FAIRWAY_VERSION__ === 'undefined' ? '0.0.0-dev' : __FAIRWAY_VERSION__;
