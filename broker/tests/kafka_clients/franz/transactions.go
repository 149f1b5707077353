package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const copied = 2000

// commitAndAbort: whole or not at all, and a newer producer of the same id puts the older out.
func commitAndAbort(ctx context.Context) {
	topic := create(ctx, name("t"), 2)
	opts := []kgo.Opt{kgo.TransactionalID(name("tx")), kgo.RecordPartitioner(kgo.ManualPartitioner())}
	cl := client(opts...)
	write := func(cl *kgo.Client, tag string) error {
		var records []*kgo.Record
		for i := range 20 {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: fmt.Appendf(nil, "%s-%d", tag, i)})
		}
		return cl.ProduceSync(ctx, records...).FirstErr()
	}
	var kept []string
	for p := range 2 {
		for _, tag := range []string{"0", "2", "4"} {
			for i := p; i < 20; i += 2 {
				kept = append(kept, fmt.Sprintf("%s-%d", tag, i))
			}
		}
	}
	for i := range 5 {
		must(cl.BeginTransaction(), "begin")
		must(write(cl, strconv.Itoa(i)), "produce")
		must(cl.EndTransaction(ctx, kgo.TransactionEndTry(i%2 == 0)), "end")
	}
	equal(values(readAll(ctx, topic, kgo.FetchIsolationLevel(kgo.ReadCommitted()))), kept, "committed")
	equal(len(readAll(ctx, topic)), 100, "all")
	must(cl.BeginTransaction(), "begin")
	must(write(cl, "open"), "produce")
	newer := client(opts...)
	must(newer.BeginTransaction(), "begin")
	must(write(newer, "newer"), "produce")
	must(newer.EndTransaction(ctx, kgo.TryCommit), "commit")
	if write(cl, "late") == nil && cl.EndTransaction(ctx, kgo.TryCommit) == nil {
		fail("a fenced producer committed")
	}
	equal(len(readAll(ctx, topic, kgo.FetchIsolationLevel(kgo.ReadCommitted()))), 80, "committed")
}

func copyPrepare(ctx context.Context) {
	create(ctx, name("out"), 2)
	fill(ctx, create(ctx, name("in"), 2), 2, copied)
}

// copyOnce copies from `in` to `out` by a transact session; with `seed` it dies on its way.
func copyOnce(ctx context.Context) {
	random, dies := rand.New(rand.NewSource(1)), -1
	if seed, given := options["seed"]; given {
		number, err := strconv.ParseInt(seed, 10, 64)
		must(err, "seed")
		random = rand.New(rand.NewSource(number))
		dies = 3 + random.Intn(20)
	}
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.RetryTimeout(90*time.Second), kgo.TransactionalID(name("copy")), kgo.TransactionTimeout(10*time.Second),
		kgo.ConsumerGroup(name("group")), kgo.ConsumeTopics(name("in")), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.RequireStableFetchOffsets(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	must(err, "session")
	adm := kadm.NewClient(client())
	step := 0
	die := func() {
		if step++; dies >= 0 && step > dies {
			os.Exit(9)
		}
	}
	for {
		wait, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		fetches := session.PollRecords(wait, 40)
		cancel()
		if fetches.NumRecords() == 0 {
			committed, err := adm.FetchOffsets(ctx, name("group"))
			must(err, "committed")
			done := int64(0)
			committed.Each(func(o kadm.OffsetResponse) { done += o.At })
			if done == copied {
				session.Close()
				return
			}
			continue
		}
		must(session.Begin(), "begin")
		die()
		fetches.EachRecord(func(r *kgo.Record) {
			out := &kgo.Record{Topic: name("out"), Partition: r.Partition, Value: append([]byte("copy of "), r.Value...)}
			session.Produce(ctx, out, func(_ *kgo.Record, err error) {
				// The end of the transaction finds it, too, and aborts.
				if err != nil {
					fmt.Fprintln(os.Stderr, "produce:", err)
				}
			})
		})
		die()
		if dies >= 0 && step+1 == dies {
			go session.End(ctx, kgo.TryCommit)
			time.Sleep(time.Duration(random.Intn(8)) * time.Millisecond)
			os.Exit(9)
		}
		_, err := session.End(ctx, kgo.TryCommit)
		must(err, "end")
		die()
	}
}

// copyCheck: the copy is the input, once each, in order.
func copyCheck(ctx context.Context) {
	var expected []string
	for p := range 2 {
		for i := p; i < copied; i += 2 {
			expected = append(expected, fmt.Sprintf("copy of %d", i))
		}
	}
	equal(values(readAll(ctx, name("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))), expected, "the copy")
}
