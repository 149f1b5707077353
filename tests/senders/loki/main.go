// Pushes lines by loki-client-go, which is promtail's own client, and prints what it says of itself as JSON.
//
//	usage: loki URL TENANT BATCH_SIZE_BYTES <LINES
//
// A line of standard input is {"labels": {...}, "timestamp_ns": N, "line": "...", "metadata": {...}}.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/loki-client-go/loki"
	"github.com/grafana/loki-client-go/pkg/urlutil"
	"github.com/grafana/loki/pkg/push"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

type line struct {
	Labels      map[string]string `json:"labels"`
	TimestampNs int64             `json:"timestamp_ns"`
	Line        string            `json:"line"`
	Metadata    map[string]string `json:"metadata"`
}

func main() {
	batchSizeBytes, err := strconv.Atoi(os.Args[3])
	check(err)
	config, err := loki.NewDefaultConfig(os.Args[1])
	check(err)
	config.TenantID = os.Args[2]
	config.BatchSize = batchSizeBytes
	config.BatchWait = 200 * time.Millisecond
	// As promtail comes, but for waits that a test has no time for.
	config.BackoffConfig.MinBackoff = 50 * time.Millisecond
	config.BackoffConfig.MaxBackoff = 500 * time.Millisecond
	config.BackoffConfig.MaxRetries = 200
	var url urlutil.URLValue
	check(url.Set(os.Args[1]))
	config.URL = url
	client, err := loki.New(config)
	check(err)
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 16<<20)
	for input.Scan() {
		var line line
		check(json.Unmarshal(input.Bytes(), &line))
		labels := model.LabelSet{}
		for name, value := range line.Labels {
			labels[model.LabelName(name)] = model.LabelValue(value)
		}
		metadata := push.LabelsAdapter{}
		for name, value := range line.Metadata {
			metadata = append(metadata, push.LabelAdapter{Name: name, Value: value})
		}
		sort.Slice(metadata, func(a, b int) bool { return metadata[a].Name < metadata[b].Name })
		check(client.HandleWithMetadata(labels, time.Unix(0, line.TimestampNs), line.Line, metadata))
	}
	check(input.Err())
	client.Stop()
	said := map[string]float64{}
	families, err := prometheus.DefaultGatherer.Gather()
	check(err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if metric.GetCounter() != nil && strings.HasPrefix(family.GetName(), "promtail_") {
				said[family.GetName()] += metric.GetCounter().GetValue()
			}
		}
	}
	text, err := json.Marshal(said)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
