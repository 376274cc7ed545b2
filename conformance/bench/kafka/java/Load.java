// The load generator: one JVM that stays up while a broker is measured, so that neither its start nor its cold code is in
// any number. Reads one command a line from standard input (`name key=value ...`), answers with one line: `ok {json}` or
// `error reason`. Everything goes through the official clients.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

public final class Load {
    public static void main(String[] arguments) throws Exception {
        // What the official tools print must not mix with the answers.
        PrintStream answers = System.out;
        System.setOut(System.err);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            try {
                answers.println("ok " + run(line.trim().split(" ")));
            } catch (Throwable failure) {
                failure.printStackTrace();
                answers.println("error " + String.valueOf(failure).replace('\n', ' '));
            }
            answers.flush();
        }
    }

    private static String run(String[] words) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int at = 1; at < words.length; at++) {
            String[] pair = words[at].split("=", 2);
            options.put(pair[0], pair[1]);
        }
        switch (words[0]) {
            case "create": return Topics.create(options);
            case "delete": return Topics.delete(options);
            case "produce": return Produce.run(options);
            case "fill": return Produce.fill(options);
            case "tail": return Tail.run(options);
            case "follow": return Tail.follow(options);
            case "transact": return Transact.run(options);
            case "groups": return Groups.run(options);
            case "share": return Share.run(options);
            case "catch-up": return CatchUp.run(options);
            case "end-to-end": return EndToEnd.run(options);
            default: throw new IllegalArgumentException("no command " + words[0]);
        }
    }

    static int number(Map<String, String> options, String key) {
        return Integer.parseInt(required(options, key));
    }

    static String required(Map<String, String> options, String key) {
        String value = options.get(key);
        if (value == null) throw new IllegalArgumentException("missing " + key);
        return value;
    }

    /** Properties with the address and every option that starts with `PREFIX.`, passed on as it is. */
    static Properties properties(Map<String, String> options, String prefix) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", required(options, "address"));
        options.forEach((key, value) -> {
            if (key.startsWith(prefix + ".")) properties.put(key.substring(prefix.length() + 1), value);
        });
        return properties;
    }
}
