// franz-go against a broker: `franz BOOTSTRAP [CASE...]`.
//
// Prints one line per case: `ok CASE MILLIS`, `FAIL CASE reason` or `skip CASE reason`; exits 1 if any failed.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const deadline = 60 * time.Second

type entry struct {
	name string
	run  func(*kit)
}

// kit is what one case works with; its methods panic with an explanation when something does not hold.
type kit struct {
	ctx       context.Context
	bootstrap string
	opened    []func()
}

type failure struct{ reason string }

func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(failure{fmt.Sprintf(format, arguments...)})
	}
}

func must(err error, what string) { check(err == nil, "%s: %v", what, err) }

func same[T comparable](wanted, got T, what string) {
	check(wanted == got, "%s: wanted %v, got %v", what, wanted, got)
}

// fails checks that a broker's own error came back.
func fails(wanted, got error, what string) {
	check(errors.Is(got, wanted), "%s: wanted %v, got %v", what, wanted, got)
}

func until(what string, holds func() bool) {
	for end := time.Now().Add(deadline); !holds(); time.Sleep(20 * time.Millisecond) {
		check(time.Now().Before(end), "not within %v: %s", deadline, what)
	}
}

func unique(kind string) string {
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	return "franz-" + kind + "-" + hex.EncodeToString(random)
}

func (k *kit) client(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(k.bootstrap), kgo.AllowAutoTopicCreation(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond), kgo.RecordDeliveryTimeout(60 * time.Second)}, options...)...)
	must(err, "a client")
	k.opened = append(k.opened, client.Close)
	return client
}

func (k *kit) admin() *kadm.Client { return kadm.NewClient(k.client()) }

// topic makes a topic and waits until the broker leads all its partitions.
func (k *kit) topic(partitions int32, config map[string]string) string {
	name := unique("topic")
	configs := map[string]*string{}
	for key, value := range config {
		configs[key] = &value
	}
	admin := k.admin()
	_, err := admin.CreateTopic(k.ctx, partitions, 1, configs, name)
	must(err, "creating "+name)
	until(name+" has leaders", func() bool {
		offsets, err := admin.ListEndOffsets(k.ctx, name)
		return err == nil && offsets.Error() == nil && len(offsets[name]) == int(partitions)
	})
	return name
}

func (k *kit) send(client *kgo.Client, records ...*kgo.Record) []*kgo.Record {
	var sent []*kgo.Record
	for _, result := range client.ProduceSync(k.ctx, records...) {
		must(result.Err, "sending")
		sent = append(sent, result.Record)
	}
	return sent
}

func values(topic string, partition int32, prefix string, count int) []*kgo.Record {
	var records []*kgo.Record
	for i := range count {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition,
			Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "%s%d", prefix, i)})
	}
	return records
}

func (k *kit) read(client *kgo.Client, count int) []*kgo.Record {
	ctx, cancel := context.WithTimeout(k.ctx, deadline)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			check(false, "read %d of %d records", len(records), count)
		}
		for _, problem := range fetches.Errors() {
			must(problem.Err, "fetching "+problem.Topic)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

func from(topic string, partitions int32, offset kgo.Offset) kgo.Opt {
	assigned := map[int32]kgo.Offset{}
	for partition := range partitions {
		assigned[partition] = offset
	}
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: assigned})
}

func (k *kit) readAll(topic string, partitions int32, count int, options ...kgo.Opt) []*kgo.Record {
	return k.read(k.client(append(options, from(topic, partitions, kgo.NewOffset().AtStart()))...), count)
}

func run(case_ entry, bootstrap string) (line string, failed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	k := &kit{ctx: ctx, bootstrap: bootstrap}
	start := time.Now()
	defer func() {
		problem := recover()
		for i := len(k.opened) - 1; i >= 0; i-- {
			k.opened[i]()
		}
		cancel()
		switch reason := problem.(type) {
		case nil:
		case failure:
			line, failed = fmt.Sprintf("FAIL %s %s", case_.name, strings.Join(strings.Fields(reason.reason), " ")), true
		default:
			line, failed = fmt.Sprintf("FAIL %s panic: %v", case_.name, problem), true
			debug.PrintStack()
		}
	}()
	case_.run(k)
	return fmt.Sprintf("ok %s %d", case_.name, time.Since(start).Milliseconds()), false
}

func main() {
	bootstrap, wanted := os.Args[1], os.Args[2:]
	status := 0
	for _, case_ := range cases() {
		named := len(wanted) == 0
		for _, name := range wanted {
			named = named || name == case_.name
		}
		if !named {
			continue
		}
		line, failed := run(case_, bootstrap)
		fmt.Println(line)
		if failed {
			status = 1
		}
	}
	os.Exit(status)
}
