// Package report runs benchmarks one after the other and writes what they measured as
// one Markdown document: `cloudburst-bench all`.
//
// A section is one benchmark. It writes its rows as JSON, an object each, as every
// benchmark does with -o json; the report makes a table of them, and the charts that
// the section asks for, which Mermaid draws where the document is shown (GitHub does).
// So a benchmark needs no code here: it is one more entry in the list that the console
// hands in.
//
// A benchmark that fails is said in its section, with whatever it had measured; the
// others run all the same, and Write returns the error. What has been written stays
// when ctx ends.
package report
