package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func refused(err error, expected *kerr.Error, what string) {
	if !errors.Is(err, expected) {
		fail("%s: got %v, expected %v", what, err, expected)
	}
}

// administer: topics, settings, offsets and groups by kadm.
func administer(ctx context.Context) {
	adm := kadm.NewClient(client())
	defer adm.Close()
	topic, group := name("t"), name("group")
	retention := "3600000"
	_, err := adm.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, topic)
	must(err, "create")
	_, err = adm.CreateTopic(ctx, 2, 1, nil, topic)
	refused(err, kerr.TopicAlreadyExists, "twice")
	eventually("it is listed", func() bool {
		topics, err := adm.ListTopics(ctx, topic)
		must(err, "list")
		return topics.Has(topic) && len(topics[topic].Partitions) == 2
	})
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	must(err, "configs")
	seen := map[string]string{}
	for _, config := range configs[0].Configs {
		seen[config.Key] = config.MaybeValue()
	}
	equal(seen["retention.ms"], retention, "retention.ms")
	equal(seen["cleanup.policy"], "delete", "cleanup.policy")
	changed := "7200000"
	_, err = adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &changed}}, topic)
	must(err, "alter")
	grown, err := adm.CreatePartitions(ctx, 1, topic)
	must(err, "grow")
	must(grown[topic].Err, "grow")
	eventually("three partitions", func() bool {
		topics, err := adm.ListTopics(ctx, topic)
		must(err, "list")
		return len(topics[topic].Partitions) == 3
	})
	fill(ctx, topic, 3, 30)
	ends, err := adm.ListEndOffsets(ctx, topic)
	must(err, "ends")
	for p := range int32(3) {
		end, _ := ends.Lookup(topic, p)
		equal(end.Offset, 10, "end")
	}
	var below kadm.Offsets
	below.AddOffset(topic, 1, 4, -1)
	deleted, err := adm.DeleteRecords(ctx, below)
	must(err, "delete records")
	low, _ := deleted.Lookup(topic, 1)
	equal(low.LowWatermark, 4, "log start")
	starts, err := adm.ListStartOffsets(ctx, topic)
	must(err, "starts")
	start, _ := starts.Lookup(topic, 1)
	equal(start.Offset, 4, "log start")

	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: -1, Metadata: "by hand"})
	must(adm.CommitAllOffsets(ctx, group, offsets), "commit")
	committed, err := adm.FetchOffsets(ctx, group)
	must(err, "fetch offsets")
	offset, _ := committed.Lookup(topic, 0)
	equal(fmt.Sprint(offset.At, offset.Metadata), "7by hand", "committed")
	lag, err := adm.Lag(ctx, group)
	must(err, "lag")
	equal(lag[group].Lag[topic][0].Lag, 3, "lag")
	_, err = adm.DeleteOffsets(ctx, group, kadm.TopicsSet{topic: map[int32]struct{}{0: {}}})
	must(err, "delete offsets")
	listed, err := adm.ListGroups(ctx)
	must(err, "groups")
	if _, ok := listed[group]; ok {
		_, err = adm.DeleteGroup(ctx, group)
		must(err, "delete group")
	}
	_, err = adm.DeleteGroup(ctx, group)
	refused(err, kerr.GroupIDNotFound, "delete what is not there")
	_, err = adm.DeleteTopic(ctx, topic)
	must(err, "delete")
	_, err = adm.DeleteTopic(ctx, topic)
	refused(err, kerr.UnknownTopicOrPartition, "twice")
	brokers, err := adm.ListBrokers(ctx)
	must(err, "brokers")
	equal(brokers.NodeIDs(), []int32{1}, "nodes")
	nobody := client(kgo.UnknownTopicRetries(0))
	defer nobody.Close()
	must2 := nobody.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
	refused(must2, kerr.UnknownTopicOrPartition, "produce to what is gone")
}
