package dagengine_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudburst-nats/cloudburst/dagengine"
)

// A graph as a literal: a report on a product's price and stock.
func ExampleCompile() {
	plan, err := dagengine.Compile(&dagengine.Graph{
		Name: "report",
		Nodes: []dagengine.Node{
			{Name: "price", Timeout: 2 * time.Second},
			{Name: "stock", Attempts: 5},
			{Name: "report", Function: "render", With: map[string]json.RawMessage{"currency": json.RawMessage(`"EUR"`)}},
		},
		Edges: []dagengine.Edge{
			{From: "price", To: "report", Arg: "price"},
			{From: "stock", To: "report", Arg: "stock"},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range plan.Order() {
		fmt.Println(n.Name, "runs", n.FunctionName())
	}
	// Output:
	// price runs price
	// stock runs stock
	// report runs render
}

// Everything that is wrong with a graph is told at once.
func ExampleGraph_Validate() {
	g, err := dagengine.Parse([]byte(`
name: shop
nodes: [{name: order}, {name: pay}, {name: ship}]
edges:
  - {from: order, to: pay, arg: order}
  - {from: pay, to: ship}
  - {from: ship, to: pay, arg: parcel}
  - {from: order, to: shp}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(g.Validate())
	// Output:
	// "order -> shp": invalid: there is no node "shp"; did you mean "ship"?
	// "pay -> ship -> pay": invalid: the edges form a cycle
}
