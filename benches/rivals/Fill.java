import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Fills a topic of one partition with the rows that benches/examples/window_task.rs rolls up: BROKERS TOPIC ROWS KEYS. */
class Fill {
    static final long START_MS = 1_772_323_200_000L;
    static final int ROWS_A_SECOND = 8_192;

    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0], topic = arguments[1];
        long rows = Long.parseLong(arguments[2]), keys = Long.parseLong(arguments[3]);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", (Object) brokers))) {
            NewTopic one = new NewTopic(topic, 1, (short) 1).configs(Map.of("retention.ms", "-1"));
            admin.createTopics(List.of(one)).all().get();
        }
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("linger.ms", "20");
        settings.put("batch.size", String.valueOf(1 << 20));
        settings.put("compression.type", "lz4");
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (long row = 0; row < rows; row++) {
                long at = START_MS + row * 1_000 / ROWS_A_SECOND;
                String service = "service-" + row * 31 % keys;
                String value = "{\"ts\":" + at + ",\"service\":\"" + service + "\",\"value\":" + row * 7_919 % 1_000 + "}";
                producer.send(new ProducerRecord<>(topic, 0, at, service.getBytes(), value.getBytes()));
            }
        }
    }
}
