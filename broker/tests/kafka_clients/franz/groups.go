package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// member is a consumer with its own goroutine, which keeps what it was told and what it read.
type member struct {
	cl      *kgo.Client
	mu      sync.Mutex
	owned   map[int32]bool
	revoked int
	read    []string
	cancel  context.CancelFunc
	done    chan struct{}
}

func join(ctx context.Context, group, topic string, opts ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	assigned := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range parts[topic] {
			m.owned[p] = true
		}
	}
	gone := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range parts[topic] {
			delete(m.owned, p)
			m.revoked++
		}
	}
	m.cl = client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(assigned), kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
	}, opts...)...)
	ctx, m.cancel = context.WithCancel(ctx)
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			fetches := m.cl.PollFetches(ctx)
			m.mu.Lock()
			fetches.EachRecord(func(r *kgo.Record) { m.read = append(m.read, string(r.Value)) })
			m.mu.Unlock()
			if ctx.Err() == nil {
				must(m.cl.CommitUncommittedOffsets(ctx), "commit")
			}
		}
	}()
	return m
}

func (m *member) owns() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.owned)
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.read)
}

func (m *member) leave() {
	m.cancel()
	<-m.done
	m.cl.Close()
}

func fill(ctx context.Context, topic string, partitions, count int) {
	var records []*kgo.Record
	for i := range count {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Append(nil, i)})
	}
	send(ctx, records)
}

// groups: the cooperative and the eager balancer, a static member, and what was committed.
func groups(ctx context.Context) {
	for kind, balancer := range map[string]kgo.GroupBalancer{"cooperative": kgo.CooperativeStickyBalancer(), "range": kgo.RangeBalancer()} {
		topic, group := create(ctx, name(kind), 6), name(kind+"-group")
		strategy := kgo.Balancers(balancer)
		first := join(ctx, group, topic, strategy)
		eventually("one has all", func() bool { return first.owns() == 6 })
		second := join(ctx, group, topic, strategy, kgo.InstanceID("b"))
		eventually("two share", func() bool { return first.owns() == 3 && second.owns() == 3 })
		equal(first.revoked, map[string]int{"cooperative": 3, "range": 6}[kind], "let go of by the first, "+kind)
		fill(ctx, topic, 6, 60)
		eventually("all is read", func() bool { return first.count()+second.count() == 60 })
		equal(second.count(), 30, "read by the second")
		before := first.revoked
		// A static member does not leave: it comes back to what it had.
		second.leave()
		second = join(ctx, group, topic, strategy, kgo.InstanceID("b"))
		eventually("it is back", func() bool { return second.owns() == 3 })
		equal(first.revoked, before, "rebalances that the first saw")
		adm := kadm.NewClient(client())
		committed, err := adm.FetchOffsets(ctx, group)
		must(err, "committed")
		for p := range int32(6) {
			offset, _ := committed.Lookup(topic, p)
			equal(offset.At, 10, "committed")
		}
		described, err := adm.DescribeGroups(ctx, group)
		must(err, "describe")
		equal(described[group].State, "Stable", "state")
		equal(len(described[group].Members), 2, "members")
		_, err = adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("b"))
		must(err, "leave")
		second.cancel()
		eventually("one has all again", func() bool { return first.owns() == 6 })
		first.leave()
		adm.Close()
	}
}
