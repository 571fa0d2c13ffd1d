/** IANA service names, which the Kubernetes API demands of port names (`IANA_SVC_NAME`). */

/** RFC 6335, 5.1, in lower case: at most 15 letters, digits and hyphens, at least one letter, hyphens only singly and between others. */
export function isServiceName(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 15 && SERVICE_NAME.test(value) && /[a-z]/.test(value);
}

const SERVICE_NAME = /^[a-z0-9]+(-[a-z0-9]+)*$/;
