package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// compressions: what goes in comes out, whatever the codec.
func compressions(ctx context.Context) {
	topic := create(ctx, name("t"), 1)
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	start := time.UnixMilli(1_772_150_400_000)
	var expected []*kgo.Record
	for c, codec := range codecs {
		var records []*kgo.Record
		for i := range 300 {
			record := &kgo.Record{Topic: topic, Timestamp: start.Add(time.Duration(i) * time.Second)}
			if i%7 != 0 {
				record.Key = fmt.Appendf(nil, "%d-%d", c, i%13)
			}
			if i%11 != 0 {
				record.Value = []byte(strings.Repeat(fmt.Sprintf("naïve “%d” %d", c, i), 1+i%50))
			}
			if i%5 != 0 {
				record.Headers = []kgo.RecordHeader{{Key: "trace", Value: fmt.Appendf(nil, "%d", i)}, {Key: "trace", Value: []byte{}}, {Key: "none"}}
			}
			records = append(records, record)
		}
		send(ctx, records, kgo.ProducerBatchCompression(codec))
		expected = append(expected, records...)
	}
	read := readAll(ctx, topic)
	equal(len(read), len(expected), "records")
	for i, got := range read {
		want := expected[i]
		equal(got.Offset, int64(i), "offset")
		equal(got.Key, want.Key, "key")
		equal(got.Value, want.Value, "value")
		equal(len(got.Headers), len(want.Headers), "headers")
		for h := range want.Headers {
			equal(got.Headers[h].Key, want.Headers[h].Key, "name of a header")
			equal(got.Headers[h].Value, want.Headers[h].Value, "value of a header")
		}
		equal(got.Timestamp.UnixMilli(), want.Timestamp.UnixMilli(), "timestamp")
	}
}

// restarts: the broker dies and comes back under an idempotent producer; everything is there once, in order.
func restarts(ctx context.Context) {
	topic := create(ctx, name("t"), 2)
	cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(time.Millisecond))
	var failed sync.Map
	produced := 0
	for range 3 {
		for i := range 2000 {
			record := &kgo.Record{Topic: topic, Partition: int32(produced % 2), Value: fmt.Append(nil, produced)}
			cl.Produce(ctx, record, func(r *kgo.Record, err error) {
				if err != nil {
					failed.Store(string(r.Value), err)
				}
			})
			produced++
			switch i {
			case 500:
				ask("kill")
			case 1000:
				ask("start")
			}
		}
		must(cl.Flush(ctx), "flush")
	}
	failed.Range(func(value, err any) bool {
		fail("%v was not produced: %v", value, err)
		return false
	})
	cl.Close()
	read := readAll(ctx, topic)
	equal(len(read), produced, "records")
	next := []int{0, 1}
	for _, record := range read {
		equal(string(record.Value), fmt.Sprint(next[record.Partition]), "order")
		next[record.Partition] += 2
	}
}
