// Package anomalies runs the paper's consistency experiment (section 6.2): what
// each level costs beside the others, and what the weakest of them lets through.
// It is behind `cloudburst-bench consistency`.
//
// Clients call random DAGs whose nodes read and write keys that a Zipf
// distribution draws, on workers that are processes of their own. A request is
// one such call, and the same at every level: its DAG and its keys follow from the
// seed. The levels take turns in rounds, each on a namespace of its own, so that
// whatever else the machine does hits all alike.
//
// Every execution of a node is appended to its worker's file, with the versions
// that it was shown, before what it wrote is stored: a worker that is killed
// leaves no write behind that nobody knows of. When all runs have ended, an audit
// reads from the server what the keys hold that causal levels wrote. Then the
// history of each level is checked against that level's promise, which must hold,
// and the one of level lww against all others: what they would have excluded.
//
// On one machine news of a write is so fast that caches are hardly ever behind,
// and a level would seem to keep its promise by luck. Config.Lag takes the luck
// away: some workers hear of writes late, through a lag between them and the
// server.
//
// A run that fails, or doesn't end, ends the experiment with an error, but for one
// that gave up beginning again: that is counted. A broken promise is no error: it
// is in the report, with the shortest history that shows it.
package anomalies
