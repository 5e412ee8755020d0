package retwis

import (
	"context"

	"github.com/cloudburst-nats/cloudburst"
	"github.com/cloudburst-nats/cloudburst/dagengine"
)

// Apply defines the DAGs post and reply. Their functions must be served.
func Apply(ctx context.Context, c *cloudburst.Client) error {
	for _, g := range []*dagengine.Graph{
		{
			Name: "post", About: "writes a post and hands it on to its author's followers",
			Nodes: []dagengine.Node{{Name: "write"}, {Name: "fanout"}},
			Edges: []dagengine.Edge{{From: "write", To: "fanout"}},
		},
		{
			Name: "reply", About: "answers a post and hands the answer on as a post",
			Nodes: []dagengine.Node{{Name: "answer"}, {Name: "fanout"}},
			Edges: []dagengine.Edge{{From: "answer", To: "fanout"}},
		},
	} {
		if err := c.ApplyDAG(ctx, g); err != nil {
			return err
		}
	}
	return nil
}
