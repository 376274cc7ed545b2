// paho for Go: paho.mqtt.golang (3.1.1), paho.golang (5) and its autopaho. `paho ADDRESS[,ADDRESS] [CASE...]`.
package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const patience = 20 * time.Second

// Gateways of one core: connections go to each in turn.
var (
	addresses []string
	dealt     atomic.Uint32
)

func deal() string {
	return addresses[int(dealt.Add(1)-1)%len(addresses)]
}

// inbox gathers texts.
type inbox struct {
	sync.Mutex
	texts []string
}

func (in *inbox) add(text string) {
	in.Lock()
	defer in.Unlock()
	in.texts = append(in.texts, text)
}

func (in *inbox) all() []string {
	in.Lock()
	defer in.Unlock()
	return append([]string(nil), in.texts...)
}

func (in *inbox) wait(count int) ([]string, error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got := in.all(); len(got) >= count {
			return got, nil
		}
	}
	return nil, fmt.Errorf("%d of %d messages within %s", len(in.all()), count, patience)
}

func numbers(count int) []string {
	var found []string
	for number := 0; number < count; number++ {
		found = append(found, fmt.Sprint(number))
	}
	return found
}

func same(wanted, got []string) error {
	if strings.Join(wanted, ",") != strings.Join(got, ",") {
		return fmt.Errorf("wanted %.200v, got %.200v", wanted, got)
	}
	return nil
}

// ---- 3.1.1 ----------------------------------------------------------------------------------------------------------

func options(id string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + deal()).SetClientID(id).SetConnectRetry(false).SetAutoReconnect(false).SetProtocolVersion(4).SetOrderMatters(true)
}

func open(o *mqtt.ClientOptions) (mqtt.Client, error) {
	client := mqtt.NewClient(o)
	return client, done(client.Connect())
}

func done(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("no answer within %s", patience)
	}
	return token.Error()
}

func classicEveryQos(topic string) error {
	client, err := open(options(topic))
	if err != nil {
		return err
	}
	defer client.Disconnect(100)
	for qos := byte(0); qos < 3; qos++ {
		in := &inbox{}
		if err := done(client.Subscribe(fmt.Sprintf("%s/%d", topic, qos), qos, func(_ mqtt.Client, message mqtt.Message) { in.add(string(message.Payload())) })); err != nil {
			return err
		}
		var tokens []mqtt.Token
		for _, text := range numbers(500) {
			tokens = append(tokens, client.Publish(fmt.Sprintf("%s/%d", topic, qos), qos, false, text))
		}
		for _, token := range tokens {
			if err := done(token); err != nil {
				return err
			}
		}
		got, err := in.wait(500)
		if err != nil {
			return err
		}
		if err := same(numbers(500), got); err != nil {
			return err
		}
	}
	return nil
}

func classicRetained(topic string) error {
	client, err := open(options(topic))
	if err != nil {
		return err
	}
	defer client.Disconnect(100)
	if err := done(client.Publish(topic+"/a", 1, true, "kept")); err != nil {
		return err
	}
	in := &inbox{}
	if err := done(client.Subscribe(topic+"/+", 1, func(_ mqtt.Client, message mqtt.Message) {
		in.add(fmt.Sprint(string(message.Payload()), " ", message.Retained()))
	})); err != nil {
		return err
	}
	got, err := in.wait(1)
	if err != nil {
		return err
	}
	if err := same([]string{"kept true"}, got); err != nil {
		return err
	}
	return done(client.Publish(topic+"/a", 1, true, ""))
}

func classicSession(topic string) error {
	in := &inbox{}
	made := func() (mqtt.Client, error) {
		return open(options(topic).SetCleanSession(false).SetDefaultPublishHandler(func(_ mqtt.Client, message mqtt.Message) { in.add(string(message.Payload())) }))
	}
	phone, err := made()
	if err != nil {
		return err
	}
	if err := done(phone.Subscribe(topic, 1, nil)); err != nil {
		return err
	}
	phone.Disconnect(100)
	giver, err := open(options(topic + "-giver"))
	if err != nil {
		return err
	}
	defer giver.Disconnect(100)
	for _, text := range numbers(50) {
		if err := done(giver.Publish(topic, 1, false, text)); err != nil {
			return err
		}
	}
	if phone, err = made(); err != nil {
		return err
	}
	defer phone.Disconnect(100)
	got, err := in.wait(50)
	if err != nil {
		return err
	}
	return same(numbers(50), got)
}

func classicWill(topic string) error {
	in := &inbox{}
	watcher, err := open(options(topic + "-watcher"))
	if err != nil {
		return err
	}
	defer watcher.Disconnect(100)
	if err := done(watcher.Subscribe(topic, 1, func(_ mqtt.Client, message mqtt.Message) { in.add(string(message.Payload())) })); err != nil {
		return err
	}
	var raw net.Conn
	doomed, err := open(options(topic).SetWill(topic, "gone", 1, false).SetCustomOpenConnectionFn(dial(&raw)))
	if err != nil {
		return err
	}
	raw.Close()
	got, err := in.wait(1)
	doomed.Disconnect(0)
	if err != nil {
		return err
	}
	return same([]string{"gone"}, got)
}

// ---- 5 --------------------------------------------------------------------------------------------------------------

type modern struct {
	*paho.Client
	in      *inbox
	raw     net.Conn
	present bool
	props   *paho.PublishProperties
}

func connect5(id string, clean bool, expiry uint32, will *paho.WillMessage) (*modern, error) {
	conn, err := net.DialTimeout("tcp", deal(), patience)
	if err != nil {
		return nil, err
	}
	found := &modern{in: &inbox{}, raw: conn}
	found.Client = paho.NewClient(paho.ClientConfig{Conn: conn, ClientID: id, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(received paho.PublishReceived) (bool, error) {
		found.props = received.Packet.Properties
		found.in.add(string(received.Packet.Payload))
		return true, nil
	}}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := found.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 60, CleanStart: clean, WillMessage: will, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}})
	if err != nil {
		return nil, err
	}
	found.present = answer.SessionPresent
	return found, nil
}

func (client *modern) subscribe(topic string, qos byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: qos}}})
	return err
}

func (client *modern) publish(topic, text string, qos byte, properties *paho.PublishProperties) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := client.Publish(ctx, &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(text), Properties: properties})
	return err
}

func (client *modern) leave() { client.Disconnect(&paho.Disconnect{}) }

func modernEveryQos(topic string) error {
	client, err := connect5(topic, true, 0, nil)
	if err != nil {
		return err
	}
	defer client.leave()
	if err := client.subscribe(topic+"/#", 2); err != nil {
		return err
	}
	for number, text := range numbers(300) {
		if err := client.publish(fmt.Sprintf("%s/%d", topic, number%3), text, byte(number%3), nil); err != nil {
			return err
		}
	}
	got, err := client.in.wait(300)
	if err != nil {
		return err
	}
	sort.Slice(got, func(a, b int) bool { return len(got[a]) < len(got[b]) || len(got[a]) == len(got[b]) && got[a] < got[b] })
	return same(numbers(300), got)
}

func modernProperties(topic string) error {
	client, err := connect5(topic, true, 0, nil)
	if err != nil {
		return err
	}
	defer client.leave()
	if err := client.subscribe(topic, 1); err != nil {
		return err
	}
	sent := &paho.PublishProperties{ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte{0, 255}}
	sent.User.Add("a", "1").Add("a", "2")
	if err := client.publish(topic, "x", 1, sent); err != nil {
		return err
	}
	if _, err := client.in.wait(1); err != nil {
		return err
	}
	got := client.props
	return same([]string{"text/plain", "r", "00ff", "1,2"}, []string{got.ContentType, got.ResponseTopic, fmt.Sprintf("%x", got.CorrelationData), strings.Join(got.User.GetAll("a"), ",")})
}

func modernSession(topic string) error {
	phone, err := connect5(topic, false, 600, nil)
	if err != nil {
		return err
	}
	if err := phone.subscribe(topic, 1); err != nil {
		return err
	}
	phone.leave()
	giver, err := connect5(topic+"-giver", true, 0, nil)
	if err != nil {
		return err
	}
	defer giver.leave()
	for _, text := range numbers(50) {
		if err := giver.publish(topic, text, 1, nil); err != nil {
			return err
		}
	}
	if phone, err = connect5(topic, false, 600, nil); err != nil {
		return err
	}
	defer phone.leave()
	if !phone.present {
		return fmt.Errorf("no session present")
	}
	got, err := phone.in.wait(50)
	if err != nil {
		return err
	}
	return same(numbers(50), got)
}

func modernWill(topic string) error {
	watcher, err := connect5(topic+"-watcher", true, 0, nil)
	if err != nil {
		return err
	}
	defer watcher.leave()
	if err := watcher.subscribe(topic, 1); err != nil {
		return err
	}
	doomed, err := connect5(topic, true, 0, &paho.WillMessage{Topic: topic, QoS: 1, Payload: []byte("gone")})
	if err != nil {
		return err
	}
	doomed.raw.Close()
	got, err := watcher.in.wait(1)
	if err != nil {
		return err
	}
	return same([]string{"gone"}, got)
}

func main() {
	addresses = strings.Split(os.Args[1], ",")
	cases := []struct {
		name string
		run  func(string) error
	}{
		{"every_qos_v311", classicEveryQos}, {"retained_v311", classicRetained}, {"session_v311", classicSession}, {"will_v311", classicWill},
		{"every_qos_v5", modernEveryQos}, {"properties_v5", modernProperties}, {"session_v5", modernSession}, {"will_v5", modernWill},
		{"autopaho_queue_v5", autoQueue}, {"autopaho_request_response_v5", autoRequestResponse},
	}
	wanted := map[string]bool{}
	for _, name := range os.Args[2:] {
		wanted[name] = true
	}
	failed := false
	for _, each := range cases {
		if len(wanted) > 0 && !wanted[each.name] {
			continue
		}
		started := time.Now()
		if err := each.run(fmt.Sprintf("go-%d-%s", os.Getpid(), each.name)); err != nil {
			failed = true
			fmt.Printf("FAIL %s %s\n", each.name, strings.Join(strings.Fields(err.Error()), " "))
			continue
		}
		fmt.Printf("ok %s %d\n", each.name, time.Since(started).Milliseconds())
	}
	if failed {
		os.Exit(1)
	}
}

// dial keeps the connection, so that a case can lose it.
func dial(raw *net.Conn) mqtt.OpenConnectionFunc {
	return func(server *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", server.Host, patience)
		*raw = conn
		return conn, err
	}
}
