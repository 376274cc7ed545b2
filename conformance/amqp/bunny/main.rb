# Bunny (Debian's ruby-bunny): `main.rb ADDRESS[,ADDRESS] [CASE...]`. Prints `ok CASE MILLIS` or `FAIL CASE reason`.
require "bunny"
require "securerandom"
require "timeout"

HOST, PORT = ARGV.shift.split(",").first.split(":")
DEADLINE = 30

def unique(kind) = "bunny-#{kind}-#{SecureRandom.hex(4)}"

def same(wanted, got, what)
  raise "#{what}: wanted #{wanted.inspect}, got #{got.inspect}" unless wanted == got
end

def connected
  connection = Bunny.new(host: HOST, port: PORT.to_i, automatically_recover: false, log_level: :fatal, continuation_timeout: 20_000)
  connection.start
  yield connection
ensure
  connection&.close if connection&.open?
end

CASES = {
  "publish_and_subscribe" => lambda do
    connected do |connection|
      channel = connection.create_channel
      queue = channel.queue("", exclusive: true)
      got = Queue.new
      queue.subscribe { |_, properties, body| got << [body, properties[:message_id]] }
      300.times { |i| queue.publish(i.to_s, message_id: "m#{i}") }
      same((0...300).map { |i| [i.to_s, "m#{i}"] }, Array.new(300) { got.pop }, "messages")
    end
  end,
  "confirms" => lambda do
    connected do |connection|
      channel = connection.create_channel
      channel.confirm_select
      queue = channel.queue(unique("queue"), durable: true)
      500.times { |i| queue.publish(i.to_s, persistent: true) }
      same(true, channel.wait_for_confirms, "confirmed")
      same(500, queue.message_count, "messages")
      queue.delete
    end
  end,
  "acknowledge_and_requeue" => lambda do
    connected do |connection|
      channel = connection.create_channel
      queue = channel.queue("", exclusive: true)
      queue.publish("x")
      delivery = nil
      delivery, = queue.pop(manual_ack: true) until delivery
      channel.reject(delivery.delivery_tag, true)
      delivery = nil
      delivery, = queue.pop(manual_ack: true) until delivery
      same(true, delivery.redelivered?, "redelivered")
      channel.ack(delivery.delivery_tag)
    end
  end,
  "topic_and_headers" => lambda do
    connected do |connection|
      channel = connection.create_channel
      exchange = channel.topic(unique("topic"), auto_delete: true)
      queue = channel.queue("", exclusive: true).bind(exchange, routing_key: "a.*.c")
      exchange.publish("yes", routing_key: "a.b.c", headers: { "number" => 7, "text" => "text", "table" => { "deep" => [1, 2] } })
      exchange.publish("no", routing_key: "a.b.d")
      body = nil
      _, properties, body = queue.pop until body
      same(["yes", { "number" => 7, "text" => "text", "table" => { "deep" => [1, 2] } }], [body, properties.headers], "message")
      same(nil, queue.pop.last, "no more")
    end
  end,
  "errors" => lambda do
    connected do |connection|
      begin
        connection.create_channel.queue("no-such-queue", passive: true)
        raise "declared"
      rescue Bunny::NotFound => error
        same(404, error.channel_close.reply_code, "code")
      end
      begin
        connection.create_channel.queue("amq.mine")
        raise "declared"
      rescue Bunny::AccessRefused => error
        same(403, error.channel_close.reply_code, "code")
      end
      begin
        Bunny.new(host: HOST, port: PORT.to_i, pass: "wrong", log_level: :fatal, automatically_recover: false).start
        raise "let in"
      rescue Bunny::AuthenticationFailureError, Bunny::PossibleAuthenticationFailureError
        # as it should be
      end
    end
  end,
  "transactions" => lambda do
    connected do |connection|
      channel = connection.create_channel
      queue = channel.queue("", exclusive: true)
      channel.tx_select
      queue.publish("no")
      channel.tx_rollback
      queue.publish("yes")
      channel.tx_commit
      same("yes", queue.pop.last, "body")
    end
  end,
}.freeze

failed = false
CASES.each do |name, run|
  next unless ARGV.empty? || ARGV.include?(name)
  start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  begin
    Timeout.timeout(DEADLINE) { run.call }
    puts "ok #{name} #{((Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) * 1000).to_i}"
  rescue StandardError, Timeout::Error => error
    failed = true
    puts "FAIL #{name} #{error.class}: #{error.message}".gsub(/\s+/, " ")
  end
  $stdout.flush
end
exit!(failed ? 1 : 0)
