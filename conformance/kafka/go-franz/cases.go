package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func cases() []entry {
	list := []entry{
		{"produce_consume", produceConsume}, {"auto_create", autoCreate}, {"idempotent_produce", idempotentProduce}, {"acks", acks},
	}
	for _, codec := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		list = append(list, entry{"compression_" + codec.name, func(k *kit) { compression(k, codec.codec, codec.name == "none") }})
	}
	return append(list, []entry{
		{"headers", headers}, {"tombstones", tombstones}, {"seek_by_timestamp", seekByTimestamp}, {"list_offsets", listOffsets},
		{"large_batches", largeBatches}, {"many_partitions", manyPartitions}, {"pause_resume", pauseResume},
		{"read_committed", readCommitted}, {"long_poll", longPoll},
		{"group_rebalance", func(k *kit) { rebalance(k, kgo.RangeBalancer()) }},
		{"group_cooperative", func(k *kit) { rebalance(k, kgo.CooperativeStickyBalancer()) }},
		{"static_membership", staticMembership}, {"commit_resume", commitResume}, {"consumer_epochs", consumerEpochs},
		{"fetch_session_forgets", fetchSessionForgets}, {"api_versions_newer", apiVersionsNewer}, {"api_versions_hold", apiVersionsHold},
		{"compression_by_topic", compressionByTopic},
		{"admin_topics", adminTopics}, {"admin_incremental_alter", adminIncrementalAlter}, {"admin_alter_configs_old", adminAlterOld},
		{"admin_delete_records", adminDeleteRecords}, {"admin_groups", adminGroups}, {"admin_cluster", adminCluster},
		{"errors_unknown_topic", errorsUnknownTopic}, {"errors_create_topic", errorsCreateTopic},
		{"errors_record_too_large", errorsRecordTooLarge}, {"errors_config", errorsConfig}, {"errors_group_member", errorsGroupMember},
	}...)
}

func produceConsume(k *kit) {
	topic := k.topic(3, nil)
	client := k.client()
	for partition := range int32(3) {
		for i, record := range k.send(client, values(topic, partition, fmt.Sprintf("p%d-", partition), 30)...) {
			same(int64(i), record.Offset, "offset told")
		}
	}
	next := map[int32]int64{}
	for _, record := range k.readAll(topic, 3, 90) {
		offset := next[record.Partition]
		next[record.Partition]++
		same(offset, record.Offset, "offset read")
		same(fmt.Sprintf("p%d-%d", record.Partition, offset), string(record.Value), "value")
		same(fmt.Sprintf("k%d", offset), string(record.Key), "key")
	}
}

func autoCreate(k *kit) {
	topic := unique("auto")
	same(int64(0), k.send(k.client(), values(topic, 0, "v", 1)...)[0].Offset, "first offset of a topic nobody created")
	same("v0", string(k.readAll(topic, 1, 1)[0].Value), "value")
}

func idempotentProduce(k *kit) {
	topic := k.topic(1, nil)
	k.send(k.client(kgo.ProducerBatchMaxBytes(1_000)), values(topic, 0, "v", 2_000)...)
	for i, record := range k.readAll(topic, 1, 2_000) {
		same(fmt.Sprintf("v%d", i), string(record.Value), "order")
		same(int64(i), record.Offset, "offset")
	}
}

func acks(k *kit) {
	for _, level := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()} {
		topic := k.topic(1, nil)
		k.send(k.client(kgo.RequiredAcks(level), kgo.DisableIdempotentWrite()), values(topic, 0, "v", 50)...)
		same("v49", string(k.readAll(topic, 1, 50)[49].Value), "last value")
	}
}

func compression(k *kit, codec kgo.CompressionCodec, plain bool) {
	topic := k.topic(1, nil)
	var records []*kgo.Record
	total := 0
	for i := range 300 {
		value := append(bytes.Repeat([]byte("abc"), i%400), fmt.Appendf(nil, "%d", i*i*7919)...)
		total += len(value)
		records = append(records, &kgo.Record{Topic: topic, Value: value})
	}
	k.send(k.client(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20*time.Millisecond)), records...)
	for i, record := range k.readAll(topic, 1, 300) {
		check(bytes.Equal(records[i].Value, record.Value), "value %d", i)
	}
	directories, err := k.admin().DescribeAllLogDirs(k.ctx, kadm.TopicsSet{topic: {0: {}}})
	must(err, "log directories")
	stored := int64(0)
	for _, broker := range directories {
		stored += broker.Size()
	}
	check(plain == (stored > int64(total)*8/10), "%d bytes are stored as %d", total, stored)
}

// compressionByTopic: whatever codec clients use, what is stored is the topic's; with `producer` it is theirs.
func compressionByTopic(k *kit) {
	codecs := []struct {
		topic  string
		client kgo.CompressionCodec
	}{{"uncompressed", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}}
	text := bytes.Repeat([]byte("abc"), 500)
	send := func(topic string) {
		for at, codec := range codecs {
			k.send(k.client(kgo.ProducerBatchCompression(codec.client)), &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", at), Value: text})
		}
	}
	for number, codec := range codecs {
		topic := k.topic(1, map[string]string{"compression.type": codec.topic})
		send(topic)
		for at, record := range k.readAll(topic, 1, len(codecs)) {
			same(fmt.Sprintf("k%d", at), string(record.Key), "key")
			check(bytes.Equal(text, record.Value), "what was sent as %s comes otherwise", codecs[at].topic)
			same(number, int(record.Attrs.CompressionType()), "the codec, of a topic of "+codec.topic+" and a client of "+codecs[at].topic)
		}
	}
	// As they were sent; and as compaction wants keys, the broker has to look into each.
	topic := k.topic(1, map[string]string{"compression.type": "producer", "cleanup.policy": "compact"})
	send(topic)
	for at, record := range k.readAll(topic, 1, len(codecs)) {
		same(at, int(record.Attrs.CompressionType()), "the codec as it was sent")
	}
	for _, codec := range codecs {
		client := k.client(kgo.ProducerBatchCompression(codec.client))
		sent := client.ProduceSync(k.ctx, &kgo.Record{Topic: topic, Value: text})
		fails(kerr.InvalidRecord, sent.FirstErr(), "a record without a key, sent as "+codec.topic)
	}
}

func headers(k *kit) {
	topic := k.topic(1, nil)
	sent := []kgo.RecordHeader{{Key: "twice", Value: []byte("first")}, {Key: "twice", Value: []byte("second")},
		{Key: "binary", Value: []byte{0, 0xff, 0x80, '\r', '\n'}}, {Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "naïve ключ", Value: []byte("ü")}}
	k.send(k.client(), &kgo.Record{Topic: topic, Value: []byte("v"), Headers: sent})
	got := k.readAll(topic, 1, 1)[0].Headers
	same(len(sent), len(got), "number of headers")
	for i := range sent {
		same(sent[i].Key, got[i].Key, "header key")
		check(bytes.Equal(sent[i].Value, got[i].Value) && (sent[i].Value == nil) == (got[i].Value == nil), "header value of %s", sent[i].Key)
	}
}

func tombstones(k *kit) {
	topic := k.topic(1, nil)
	sent := []*kgo.Record{{Topic: topic, Key: []byte("k")}, {Topic: topic, Value: []byte("v")}, {Topic: topic}, {Topic: topic, Key: []byte{}, Value: []byte{}}}
	k.send(k.client(), sent...)
	for i, record := range k.readAll(topic, 1, 4) {
		check((record.Key == nil) == (sent[i].Key == nil) && (record.Value == nil) == (sent[i].Value == nil), "record %d: %v %v", i, record.Key, record.Value)
	}
}

// patient is for records of the past: this client counts a record's delivery time from the record's own timestamp.
var patient = kgo.RecordDeliveryTimeout(time.Hour)

func seekByTimestamp(k *kit) {
	topic := k.topic(1, nil)
	client, start := k.client(patient), time.Now().Add(-100*time.Second).Truncate(time.Millisecond)
	for ten := range 5 {
		var records []*kgo.Record
		for i := ten * 10; i < ten*10+10; i++ {
			records = append(records, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d", i), Timestamp: start.Add(time.Duration(i) * 100 * time.Millisecond)})
		}
		k.send(client, records...)
	}
	for _, i := range []int{0, 17, 49} {
		at := start.Add(time.Duration(i)*100*time.Millisecond - 50*time.Millisecond).UnixMilli()
		offsets, err := k.admin().ListOffsetsAfterMilli(k.ctx, at, topic)
		must(err, "offsets by time")
		same(int64(i), offsets[topic][0].Offset, "offset for a time just before it")
		record := k.read(k.client(from(topic, 1, kgo.NewOffset().AfterMilli(at))), 1)[0]
		same(fmt.Sprint(i), string(record.Value), "first record after that time")
	}
}

func listOffsets(k *kit) {
	topic := k.topic(1, nil)
	start := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	client := k.client(patient)
	for _, millis := range []int{10, 900, 20} {
		k.send(client, &kgo.Record{Topic: topic, Timestamp: start.Add(time.Duration(millis) * time.Millisecond)})
	}
	admin := k.admin()
	for what, ask := range map[string]func() (kadm.ListedOffsets, error){
		"earliest 0":      func() (kadm.ListedOffsets, error) { return admin.ListStartOffsets(k.ctx, topic) },
		"latest 3":        func() (kadm.ListedOffsets, error) { return admin.ListEndOffsets(k.ctx, topic) },
		"stable 3":        func() (kadm.ListedOffsets, error) { return admin.ListCommittedOffsets(k.ctx, topic) },
		"max timestamp 1": func() (kadm.ListedOffsets, error) { return admin.ListMaxTimestampOffsets(k.ctx, topic) },
	} {
		offsets, err := ask()
		must(err, what)
		same(what[len(what)-1:], fmt.Sprint(offsets[topic][0].Offset), what)
	}
}

func largeBatches(k *kit) {
	topic := k.topic(1, nil)
	var records []*kgo.Record
	for i := range 20 {
		records = append(records, &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte{byte(i)}, 900_000)})
	}
	k.send(k.client(kgo.ProducerBatchCompression(kgo.NoCompression())), records...)
	for i, record := range k.readAll(topic, 1, 20, kgo.FetchMaxPartitionBytes(10_000), kgo.FetchMaxBytes(20_000)) {
		check(bytes.Equal(records[i].Value, record.Value), "value %d", i)
	}
}

func manyPartitions(k *kit) {
	topic := k.topic(100, nil)
	var records []*kgo.Record
	for i := range 1_000 {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 100), Value: fmt.Appendf(nil, "%d", i)})
	}
	k.send(k.client(), records...)
	seen := map[string]bool{}
	for _, record := range k.readAll(topic, 100, 1_000) {
		check(!seen[string(record.Value)], "record %s came twice", record.Value)
		seen[string(record.Value)] = true
	}
}

func pauseResume(k *kit) {
	topic := k.topic(2, nil)
	client := k.client()
	k.send(client, append(values(topic, 0, "v", 10), values(topic, 1, "v", 10)...)...)
	reader := k.client(from(topic, 2, kgo.NewOffset().AtStart()))
	reader.PauseFetchPartitions(map[string][]int32{topic: {0}})
	for _, record := range k.read(reader, 10) {
		same(int32(1), record.Partition, "partition while 0 is paused")
	}
	reader.ResumeFetchPartitions(map[string][]int32{topic: {0}})
	for _, record := range k.read(reader, 10) {
		same(int32(0), record.Partition, "partition after resuming")
	}
}

func readCommitted(k *kit) {
	topic := k.topic(1, nil)
	k.send(k.client(), values(topic, 0, "v", 50)...)
	same("v49", string(k.readAll(topic, 1, 50, kgo.FetchIsolationLevel(kgo.ReadCommitted()))[49].Value), "last value")
}

func longPoll(k *kit) {
	topic := k.topic(1, nil)
	reader := k.client(from(topic, 1, kgo.NewOffset().AtStart()), kgo.FetchMaxWait(15*time.Second))
	short, cancel := context.WithTimeout(k.ctx, 500*time.Millisecond)
	reader.PollFetches(short)
	cancel()
	k.send(k.client(), values(topic, 0, "v", 1)...)
	start := time.Now()
	k.read(reader, 1)
	check(time.Since(start) < 2*time.Second, "a waiting fetch answered after %v", time.Since(start))
}

// member polls on a goroutine of its own, notes what it read, commits, until told to leave.
type member struct {
	client      *kgo.Client
	mutex       sync.Mutex
	owned       map[int32]bool
	assignments int
	failure     error
	stop        context.CancelFunc
	done        chan struct{}
}

func join(k *kit, group, topic string, seen *sync.Map, options ...kgo.Opt) *member {
	m := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	change := func(add bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			if add {
				m.assignments++
			}
			for _, partition := range partitions[topic] {
				if add {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	m.client = k.client(append([]kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false))}, options...)...)
	ctx, cancel := context.WithCancel(k.ctx)
	m.stop = cancel
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			fetches := m.client.PollFetches(ctx)
			fetches.EachRecord(func(record *kgo.Record) { seen.Store(string(record.Value), true) })
			// An error here means a rebalance: the partition's new owner reads it again.
			_ = m.client.CommitUncommittedOffsets(ctx)
		}
	}()
	return m
}

func (m *member) leave() {
	m.stop()
	<-m.done
	m.client.Close()
}

func awaitShared(partitions int, members ...*member) {
	until(fmt.Sprintf("%d partitions are shared among %d members", partitions, len(members)), func() bool {
		all, total := map[int32]bool{}, 0
		for _, m := range members {
			m.mutex.Lock()
			own := len(m.owned)
			for partition := range m.owned {
				all[partition] = true
			}
			m.mutex.Unlock()
			if own == 0 {
				return false
			}
			total += own
		}
		return total == partitions && len(all) == partitions
	})
}

func rebalance(k *kit, balancer kgo.GroupBalancer) {
	topic, group := k.topic(6, nil), unique("group")
	var seen sync.Map
	producer, phase := k.client(), 0
	produce := func() {
		var records []*kgo.Record
		for i := range 300 {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 6), Value: fmt.Appendf(nil, "%d-%d", phase, i)})
		}
		k.send(producer, records...)
		phase++
	}
	first := join(k, group, topic, &seen, kgo.Balancers(balancer))
	produce()
	awaitShared(6, first)
	second := join(k, group, topic, &seen, kgo.Balancers(balancer))
	produce()
	awaitShared(6, first, second)
	third := join(k, group, topic, &seen, kgo.Balancers(balancer))
	produce()
	awaitShared(6, first, second, third)
	second.leave()
	produce()
	awaitShared(6, first, third)
	first.leave()
	produce()
	awaitShared(6, third)
	until("every record is read", func() bool {
		count := 0
		seen.Range(func(any, any) bool { count++; return true })
		return count == phase*300
	})
	third.leave()
}

func staticMembership(k *kit) {
	topic, group := k.topic(4, nil), unique("group")
	var seen sync.Map
	other := join(k, group, topic, &seen, kgo.InstanceID("other"), kgo.SessionTimeout(20*time.Second))
	before := join(k, group, topic, &seen, kgo.InstanceID("restarted"), kgo.SessionTimeout(20*time.Second))
	awaitShared(4, other, before)
	before.leave()
	after := join(k, group, topic, &seen, kgo.InstanceID("restarted"), kgo.SessionTimeout(20*time.Second))
	awaitShared(4, other, after)
	// A static member that closes does not leave; an administrator removes it by name.
	after.leave()
	answer, err := k.admin().LeaveGroup(k.ctx, kadm.LeaveGroup(group).InstanceIDs("restarted"))
	must(err, "removing a static member")
	must(answer.Error(), "removing a static member")
	awaitShared(4, other)
	other.leave()
}

func commitResume(k *kit) {
	topic, group := k.topic(1, nil), unique("group")
	k.send(k.client(), values(topic, 0, "v", 100)...)
	options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	reader := k.client(options...)
	records := k.read(reader, 30)
	must(reader.CommitRecords(k.ctx, records[29]), "committing")
	reader.Close()
	same("v30", string(k.read(k.client(options...), 70)[0].Value), "first record after resuming")
	offsets, err := k.admin().FetchOffsets(k.ctx, group)
	must(err, "committed offsets")
	same(int64(30), offsets[topic][0].At, "committed offset")
}

func adminTopics(k *kit) {
	topic, admin := k.topic(2, map[string]string{"retention.ms": "3600000"}), k.admin()
	details, err := admin.ListTopics(k.ctx, topic)
	must(err, "listing topics")
	same(2, len(details[topic].Partitions), "partitions")
	answer, err := admin.CreatePartitions(k.ctx, 3, topic)
	must(err, "creating partitions")
	must(answer.Error(), "creating partitions")
	until("it has five partitions", func() bool {
		details, err := admin.ListTopics(k.ctx, topic)
		return err == nil && len(details[topic].Partitions) == 5
	})
	_, err = admin.DeleteTopic(k.ctx, topic)
	must(err, "deleting")
	until("it is gone", func() bool {
		details, err := admin.ListTopics(k.ctx)
		return err == nil && !details.Has(topic)
	})
}

func described(k *kit, topic string) map[string]string {
	configs, err := k.admin().DescribeTopicConfigs(k.ctx, topic)
	must(err, "describing")
	must(configs[0].Err, "describing")
	values := map[string]string{}
	for _, config := range configs[0].Configs {
		values[config.Key] = config.MaybeValue()
	}
	return values
}

func adminIncrementalAlter(k *kit) {
	topic := k.topic(1, map[string]string{"retention.ms": "1234567"})
	check(len(described(k, topic)) >= 23, "only %d settings are described", len(described(k, topic)))
	three := "3000"
	answer, err := k.admin().AlterTopicConfigs(k.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &three}}, topic)
	must(err, "altering")
	must(answer[0].Err, "altering")
	until("max.message.bytes is set", func() bool { return described(k, topic)["max.message.bytes"] == three })
	same("1234567", described(k, topic)["retention.ms"], "another setting")
}

func adminAlterOld(k *kit) {
	topic := k.topic(1, map[string]string{"retention.ms": "1234567"})
	three := "3000"
	answer, err := k.admin().AlterTopicConfigsState(k.ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: &three}}, topic)
	must(err, "altering")
	must(answer[0].Err, "altering")
	until("max.message.bytes is set", func() bool { return described(k, topic)["max.message.bytes"] == three })
	same("604800000", described(k, topic)["retention.ms"], "what the old request does not name")
}

func adminDeleteRecords(k *kit) {
	topic := k.topic(1, nil)
	k.send(k.client(), values(topic, 0, "v", 50)...)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 20})
	answer, err := k.admin().DeleteRecords(k.ctx, offsets)
	must(err, "deleting records")
	must(answer.Error(), "deleting records")
	same(int64(20), answer[topic][0].LowWatermark, "low watermark")
	same("v20", string(k.readAll(topic, 1, 30)[0].Value), "first record left")
}

func adminGroups(k *kit) {
	topic, group, admin := k.topic(1, nil), unique("group"), k.admin()
	k.send(k.client(), values(topic, 0, "v", 10)...)
	var seen sync.Map
	one := join(k, group, topic, &seen)
	awaitShared(1, one)
	groups, err := admin.DescribeGroups(k.ctx, group)
	must(err, "describing the group")
	same("Stable", groups[group].State, "state")
	same(1, len(groups[group].Members), "members")
	listed, err := admin.ListGroups(k.ctx)
	must(err, "listing groups")
	same("Stable", listed[group].State, "listed state")
	lag, err := admin.Lag(k.ctx, group)
	must(err, "lag")
	must(lag.Error(), "lag")
	_, err = admin.DeleteGroup(k.ctx, group)
	fails(kerr.NonEmptyGroup, err, "deleting a group with members")
	one.leave()
	until("the group is empty", func() bool {
		groups, err := admin.DescribeGroups(k.ctx, group)
		return err == nil && groups[group].State == "Empty"
	})
	deleted, err := admin.DeleteOffsets(k.ctx, group, kadm.TopicsSet{topic: {0: {}}})
	must(err, "deleting offsets")
	must(deleted.Error(), "deleting offsets")
	offsets, err := admin.FetchOffsets(k.ctx, group)
	must(err, "committed offsets")
	left, isThere := offsets.Lookup(topic, 0)
	check(!isThere || left.At < 0, "%d is committed after offsets were deleted", left.At)
	_, err = admin.DeleteGroup(k.ctx, group)
	must(err, "deleting the group")
}

func adminCluster(k *kit) {
	admin := k.admin()
	metadata, err := admin.BrokerMetadata(k.ctx)
	must(err, "metadata")
	check(len(metadata.Brokers) > 0 && metadata.Cluster != "", "brokers and cluster id are told")
	_, err = admin.ApiVersions(k.ctx)
	must(err, "api versions")
	coordinators := admin.FindGroupCoordinators(k.ctx, unique("group"), unique("group"))
	must(coordinators.Error(), "coordinators of two groups in one request")
}

func errorsUnknownTopic(k *kit) {
	topic, admin := unique("absent"), k.admin()
	_, err := admin.DeleteTopic(k.ctx, topic)
	fails(kerr.UnknownTopicOrPartition, err, "deleting it")
	configs, err := admin.DescribeTopicConfigs(k.ctx, topic)
	must(err, "describing")
	fails(kerr.UnknownTopicOrPartition, configs[0].Err, "describing its configuration")
	client, err := kgo.NewClient(kgo.SeedBrokers(k.bootstrap), kgo.UnknownTopicRetries(1), kgo.MetadataMinAge(50*time.Millisecond))
	must(err, "a client")
	defer client.Close()
	err = client.ProduceSync(k.ctx, &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
	fails(kerr.UnknownTopicOrPartition, err, "producing without automatic creation")
}

func errorsCreateTopic(k *kit) {
	topic, admin := k.topic(2, nil), k.admin()
	create := func(name string, partitions int32, replicas int16) error {
		_, err := admin.CreateTopic(k.ctx, partitions, replicas, nil, name)
		return err
	}
	fails(kerr.TopicAlreadyExists, create(topic, 1, 1), "the same name")
	fails(kerr.InvalidPartitions, create(unique("new"), 0, 1), "no partitions")
	fails(kerr.InvalidReplicationFactor, create(unique("new"), 1, 9), "nine replicas")
	fails(kerr.InvalidTopicException, create("not allowed", 1, 1), "a name with a space")
	answer, err := admin.UpdatePartitions(k.ctx, 1, topic)
	must(err, "fewer partitions")
	fails(kerr.InvalidPartitions, answer.Error(), "fewer partitions")
}

func errorsRecordTooLarge(k *kit) {
	topic := k.topic(1, map[string]string{"max.message.bytes": "10000"})
	client := k.client(kgo.ProducerBatchMaxBytes(10_000_000), kgo.BrokerMaxWriteBytes(100_000_000))
	err := client.ProduceSync(k.ctx, &kgo.Record{Topic: topic, Value: make([]byte, 50_000)}).FirstErr()
	if err == nil {
		// Zeros compress well below the limit.
		random := make([]byte, 50_000)
		for i := range random {
			random[i] = byte(i * i >> 3 * i)
		}
		client = k.client(kgo.ProducerBatchMaxBytes(10_000_000), kgo.BrokerMaxWriteBytes(100_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
		err = client.ProduceSync(k.ctx, &kgo.Record{Topic: topic, Value: random}).FirstErr()
	}
	fails(kerr.MessageTooLarge, err, "50 kB into a topic of 10 kB")
}

func errorsConfig(k *kit) {
	admin := k.admin()
	for name, value := range map[string]string{"retention.ms": "soon", "no.such.config": "1", "cleanup.policy": "burn"} {
		_, err := admin.CreateTopic(k.ctx, 1, 1, map[string]*string{name: &value}, unique("new"))
		fails(kerr.InvalidConfig, err, "create with "+name)
	}
}

func errorsGroupMember(k *kit) {
	topic, group, admin := k.topic(1, nil), unique("group"), k.admin()
	var seen sync.Map
	one := join(k, group, topic, &seen)
	awaitShared(1, one)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 1})
	answer, err := admin.CommitOffsets(k.ctx, group, offsets)
	must(err, "committing")
	fails(kerr.UnknownMemberID, answer.Error(), "committing into a live group without being a member")
	one.leave()
}
