import java.nio.file.Files;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** Flink SQL over the topic that Fill made, parallelism 1: BROKERS TOPIC ROWS KEYS QUERY [check]. With `check` the answer is collected and summed. */
class Flink {
    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0], topic = arguments[1], query = arguments[4];
        long rows = Long.parseLong(arguments[2]), keys = Long.parseLong(arguments[3]);
        boolean check = arguments.length > 5;
        Configuration settings = new Configuration();
        settings.setString("parallelism.default", "1");
        settings.setString("execution.checkpointing.interval", "1s");
        settings.setString("state.backend.type", "hashmap");
        settings.setString("execution.checkpointing.dir", Files.createTempDirectory("flink").toUri().toString());
        settings.setString("table.exec.mini-batch.enabled", "false");
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        tables.executeSql("CREATE TABLE samples (ts BIGINT, service STRING, `value` DOUBLE, t AS TO_TIMESTAMP_LTZ(ts, 3), WATERMARK FOR t AS t) WITH ("
            + "'connector' = 'kafka', 'topic' = '" + topic + "', 'properties.bootstrap.servers' = '" + brokers + "', 'format' = 'json', "
            + "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset')");
        String window = switch (query) {
            case "hop" -> "HOP(TABLE samples, DESCRIPTOR(t), INTERVAL '10' SECOND, INTERVAL '1' MINUTE)";
            case "hop-fine" -> "HOP(TABLE samples, DESCRIPTOR(t), INTERVAL '1' SECOND, INTERVAL '1' MINUTE)";
            default -> "TUMBLE(TABLE samples, DESCRIPTOR(t), INTERVAL '10' SECOND)";
        };
        String aggregates = switch (query) {
            case "sum" -> "COUNT(*) AS n, SUM(`value`) AS s";
            case "p95" -> "COUNT(*) AS n, SUM(`value`) AS s, PERCENTILE(`value`, 0.95) AS p";
            default -> "COUNT(*) AS n";
        };
        String select = "SELECT window_start, service, " + aggregates + " FROM TABLE(" + window + ") GROUP BY window_start, window_end, service";
        String types = switch (query) { case "sum" -> ", s DOUBLE"; case "p95" -> ", s DOUBLE, p DOUBLE"; default -> ""; };
        tables.executeSql("CREATE TABLE closed (window_start TIMESTAMP(3), service STRING, n BIGINT" + types + ") WITH ('connector' = 'blackhole')");
        Report report = new Report();
        String more = "";
        if (check) {
            long closed = 0, counted = 0;
            try (var answer = tables.executeSql(select).collect()) {
                while (answer.hasNext()) {
                    counted += (long) answer.next().getField("n");
                    closed++;
                }
            }
            more = " closed_rows=" + closed + " counted=" + counted;
        } else {
            tables.executeSql("INSERT INTO closed " + select).await();
        }
        report.print("flink", query, keys, rows, more);
        System.exit(0);
    }
}
