// Package deployed measures functions that are deployed: the benchmarks behind
// `cloudburst-bench deploy`, `runtimes`, `pull` and `programs`.
//
// Rollout deploys version after version while calls go on at a steady rate, and
// holds every answer to what was promised: none fails, each is of one version,
// a call that began after a deployment had returned is answered by that version
// or a later one, one that ended before it began by an earlier one.
//
// Runtimes measures what a runtime takes for the same function, side by side in
// one run: the first call of a function that no worker has seen, a cold
// instance, a warm call, calls a second, and memory, against executing a program
// for each call.
package deployed
