// amqp091-go against a broker: `amqp091 ADDRESS[,ADDRESS] [CASE...]`. Prints `ok CASE MILLIS` or `FAIL CASE reason` for each case.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const deadline = 30 * time.Second

type kit struct {
	addresses []string
	name      string
	dealt     int
	open      []*amqp.Connection
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func same[T comparable](wanted, got T, what string) {
	if wanted != got {
		panic(fmt.Errorf("%s: wanted %v, got %v", what, wanted, got))
	}
}

func (k *kit) connection() *amqp.Connection {
	connection, err := amqp.Dial("amqp://guest:guest@" + k.addresses[k.dealt%len(k.addresses)] + "/")
	k.dealt++
	check(err)
	k.open = append(k.open, connection)
	return connection
}

func (k *kit) channel() *amqp.Channel {
	channel, err := k.connection().Channel()
	check(err)
	return channel
}

func (k *kit) unique(kind string) string {
	return fmt.Sprintf("go-%s-%s-%08x", k.name, kind, rand.Uint32())
}

func queue(channel *amqp.Channel, name string, arguments amqp.Table) string {
	declared, err := channel.QueueDeclare(name, false, false, name == "", false, arguments)
	check(err)
	return declared.Name
}

func publish(channel *amqp.Channel, exchange, key, body string) {
	check(channel.PublishWithContext(context.Background(), exchange, key, false, false, amqp.Publishing{Body: []byte(body)}))
}

func next(deliveries <-chan amqp.Delivery) amqp.Delivery {
	select {
	case delivery, open := <-deliveries:
		if !open {
			panic("the deliveries ended")
		}
		return delivery
	case <-time.After(deadline):
		panic("nothing was delivered")
	}
}

var cases = []struct {
	name string
	run  func(*kit)
}{
	{"publish_and_consume", func(k *kit) {
		channel := k.channel()
		name := queue(channel, "", nil)
		deliveries, err := channel.Consume(name, "", true, false, false, false, nil)
		check(err)
		for i := range 1000 {
			publish(channel, "", name, strconv.Itoa(i))
		}
		for i := range 1000 {
			same(strconv.Itoa(i), string(next(deliveries).Body), "body")
		}
	}},
	{"deferred_confirms", func(k *kit) {
		channel := k.channel()
		check(channel.Confirm(false))
		name := queue(channel, "", nil)
		var confirms []*amqp.DeferredConfirmation
		for i := range 2000 {
			confirm, err := channel.PublishWithDeferredConfirm("", name, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(i))})
			check(err)
			confirms = append(confirms, confirm)
		}
		for _, confirm := range confirms {
			within, cancel := context.WithTimeout(context.Background(), deadline)
			acknowledged, err := confirm.WaitContext(within)
			cancel()
			check(err)
			same(true, acknowledged, "confirmed")
		}
		inspected, err := channel.QueueDeclarePassive(name, false, false, true, false, nil)
		check(err)
		same(2000, inspected.Messages, "messages")
	}},
	{"table_types", func(k *kit) {
		channel := k.channel()
		name := queue(channel, "", nil)
		headers := amqp.Table{"bool": true, "byte": byte(7), "int8": int8(-7), "int16": int16(-300), "int32": int32(70000), "int64": int64(1) << 40, "float32": float32(1.5), "float64": 2.5,
			"string": "ünï", "bytes": []byte{0, 255}, "nil": nil, "time": time.Unix(1700000000, 0), "decimal": amqp.Decimal{Scale: 2, Value: 1234}, "array": []interface{}{int32(1), "two"}, "table": amqp.Table{"deep": amqp.Table{"x": "y"}}}
		check(channel.PublishWithContext(context.Background(), "", name, false, false, amqp.Publishing{Headers: headers, Body: []byte("x"), Timestamp: time.Unix(1700000000, 0), UserId: "guest"}))
		deliveries, err := channel.Consume(name, "", true, false, false, false, nil)
		check(err)
		got := next(deliveries)
		for header, value := range headers {
			same(fmt.Sprintf("%T %v", value, value), fmt.Sprintf("%T %v", got.Headers[header], got.Headers[header]), header)
		}
	}},
	{"prefetch_and_acknowledge", func(k *kit) {
		channel := k.channel()
		name := queue(channel, "", nil)
		check(channel.Qos(5, 0, false))
		deliveries, err := channel.Consume(name, "", false, false, false, false, nil)
		check(err)
		for i := range 20 {
			publish(channel, "", name, strconv.Itoa(i))
		}
		for i := range 20 {
			delivery := next(deliveries)
			same(strconv.Itoa(i), string(delivery.Body), "body")
			if i%5 == 4 {
				check(delivery.Ack(true))
			}
		}
	}},
	{"requeue", func(k *kit) {
		channel := k.channel()
		name := queue(channel, "", nil)
		publish(channel, "", name, "x")
		deliveries, err := channel.Consume(name, "", false, false, false, false, nil)
		check(err)
		for i := range 3 {
			delivery := next(deliveries)
			same(i > 0, delivery.Redelivered, "redelivered")
			check(delivery.Nack(false, i < 2))
		}
	}},
	{"channel_errors_are_told", func(k *kit) {
		channel := k.channel()
		closed := channel.NotifyClose(make(chan *amqp.Error, 1))
		_, err := channel.QueueDeclarePassive("no-such-queue", false, false, false, false, nil)
		same(404, err.(*amqp.Error).Code, "code")
		same(404, (<-closed).Code, "code that is told")
		again, err := k.open[0].Channel()
		check(err)
		queue(again, "", nil)
	}},
	{"returns", func(k *kit) {
		channel := k.channel()
		returns := channel.NotifyReturn(make(chan amqp.Return, 1))
		check(channel.PublishWithContext(context.Background(), "amq.direct", "nobody", true, false, amqp.Publishing{Body: []byte("x")}))
		select {
		case returned := <-returns:
			same(uint16(312), returned.ReplyCode, "code")
		case <-time.After(deadline):
			panic("not returned")
		}
	}},
	{"exchanges_and_bindings", func(k *kit) {
		channel := k.channel()
		front, back := k.unique("front"), k.unique("back")
		check(channel.ExchangeDeclare(front, "topic", false, true, false, false, nil))
		check(channel.ExchangeDeclare(back, "headers", false, true, false, false, nil))
		name := queue(channel, "", nil)
		check(channel.QueueBind(name, "", back, false, amqp.Table{"x-match": "any", "a": int32(1)}))
		check(channel.ExchangeBind(back, "a.*", front, false, nil))
		check(channel.PublishWithContext(context.Background(), front, "a.b", false, false, amqp.Publishing{Headers: amqp.Table{"a": int32(1)}, Body: []byte("in")}))
		check(channel.PublishWithContext(context.Background(), front, "a.b", false, false, amqp.Publishing{Headers: amqp.Table{"a": int32(2)}, Body: []byte("out")}))
		delivery, found, err := channel.Get(name, true)
		for end := time.Now().Add(deadline); err == nil && !found && time.Now().Before(end); delivery, found, err = channel.Get(name, true) {
			time.Sleep(20 * time.Millisecond)
		}
		check(err)
		same("in", string(delivery.Body), "body")
		same(uint32(0), delivery.MessageCount, "left")
	}},
	{"transactions", func(k *kit) {
		channel := k.channel()
		name := queue(channel, "", nil)
		check(channel.Tx())
		publish(channel, "", name, "no")
		check(channel.TxRollback())
		publish(channel, "", name, "yes")
		check(channel.TxCommit())
		delivery, found, err := channel.Get(name, true)
		check(err)
		same(true, found, "found")
		same("yes", string(delivery.Body), "body")
	}},
	{"cancel_when_the_queue_goes", func(k *kit) {
		channel, other := k.channel(), k.channel()
		name, err := other.QueueDeclare(k.unique("queue"), false, false, false, false, nil)
		check(err)
		cancelled := channel.NotifyCancel(make(chan string, 1))
		deliveries, err := channel.Consume(name.Name, "tag", true, false, false, false, nil)
		check(err)
		_, err = other.QueueDelete(name.Name, false, false, false)
		check(err)
		select {
		case tag := <-cancelled:
			same("tag", tag, "tag")
		case <-time.After(deadline):
			panic("not told")
		}
		_, open := <-deliveries
		same(false, open, "deliveries go on")
	}},
	{"many_connections", func(k *kit) {
		var channels []*amqp.Channel
		for range 50 {
			channels = append(channels, k.channel())
		}
		name, err := channels[0].QueueDeclare(k.unique("queue"), false, true, false, false, nil)
		check(err)
		deliveries, err := channels[0].Consume(name.Name, "", true, false, false, false, nil)
		check(err)
		for _, channel := range channels {
			publish(channel, "", name.Name, "x")
		}
		for range channels {
			next(deliveries)
		}
	}},
}

func run(one func(*kit), k *kit) (err error) {
	defer func() {
		for _, connection := range k.open {
			connection.CloseDeadline(time.Now().Add(2 * time.Second))
		}
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%v", fault)
		}
	}()
	one(k)
	return nil
}

func main() {
	failed := false
	for _, one := range cases {
		if len(os.Args) > 2 && !slices.Contains(os.Args[2:], one.name) {
			continue
		}
		start := time.Now()
		if err := run(one.run, &kit{addresses: strings.Split(os.Args[1], ","), name: one.name}); err != nil {
			failed = true
			fmt.Printf("FAIL %s %s\n", one.name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Printf("ok %s %d\n", one.name, time.Since(start).Milliseconds())
		}
	}
	if failed {
		os.Exit(1)
	}
}
