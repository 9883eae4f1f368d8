/** The package's version, put in by the build. */
declare const __FIRESIDE_VERSION__: string;
