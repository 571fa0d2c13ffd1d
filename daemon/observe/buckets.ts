/** Buckets of the histograms of time, in seconds: kube-router's end at 10, too coarse for a busy node and too short for a large one. */
export const SECONDS: readonly number[] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
