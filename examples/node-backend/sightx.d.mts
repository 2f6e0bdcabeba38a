// Types of sightx.mjs; those of answers are generated from the server's OpenAPI: `npm run types`.
import type { components } from './openapi.d.ts';

type Schemas = components['schemas'];
export type Graded = Schemas['Graded'];
export type Ungradable = Schemas['Ungradable'];
/** `grade` and `class` are there only after `outcome === 'graded'` was tested. */
export type Prediction = Graded | Ungradable;
export type PatientGrade = Schemas['GradedPatient'] | Schemas['UngradablePatient'];
export type ModelInfo = Schemas['ModelInfo'];
export type ErrorCode = Schemas['ErrorDetail']['code'] | 'unknown';

export interface Options {
  signal?: AbortSignal;
}

export class SightXError extends Error {
  readonly status: number;
  readonly code: ErrorCode;
  readonly requestId: string;
  readonly retryAfter?: number;
}

export class SightX {
  constructor(url: string, options?: { token?: string; timeout?: number; tries?: number });
  model(options?: Options): Promise<ModelInfo>;
  grade(photo: Blob, options?: Options): Promise<Prediction>;
  gradePair(left: Blob, right: Blob, options?: Options): Promise<PatientGrade>;
  explain(photo: Blob, options?: Options): Promise<Buffer>;
}
