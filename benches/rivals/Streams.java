import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams over the topic that Fill made, one thread: BROKERS TOPIC ROWS KEYS QUERY. The topic's keys are the services, so nothing is shuffled. */
class Streams {
    /** Count, sum, and a histogram of logarithmic bins of 2 %: Kafka Streams has no quantile of its own. */
    static final class State {
        static final int BINS = 600;
        long count;
        double sum;
        int[] bins;

        void add(double value, boolean percentile) {
            count++;
            sum += value;
            if (percentile) {
                if (bins == null) bins = new int[BINS];
                bins[value <= 1 ? 0 : Math.min(BINS - 1, (int) (Math.log(value) / Math.log(1.02)) + 1)]++;
            }
        }

        double p95() {
            long wanted = (long) Math.ceil(0.95 * count), seen = 0;
            for (int bin = 0; bin < BINS; bin++) if ((seen += bins[bin]) >= wanted) return Math.pow(1.02, bin);
            return 0;
        }
    }

    static byte[] write(State state) {
        int used = 0;
        if (state.bins != null) for (int bin : state.bins) if (bin > 0) used++;
        ByteBuffer out = ByteBuffer.allocate(20 + 6 * used).putLong(state.count).putDouble(state.sum).putInt(state.bins == null ? -1 : used);
        if (state.bins != null) for (int i = 0; i < State.BINS; i++) if (state.bins[i] > 0) out.putShort((short) i).putInt(state.bins[i]);
        return out.array();
    }

    static State read(byte[] bytes) {
        if (bytes == null) return null;
        ByteBuffer in = ByteBuffer.wrap(bytes);
        State state = new State();
        state.count = in.getLong();
        state.sum = in.getDouble();
        int used = in.getInt();
        if (used >= 0) state.bins = new int[State.BINS];
        for (int i = 0; i < used; i++) state.bins[in.getShort()] = in.getInt();
        return state;
    }

    static final JsonFactory JSON = new JsonFactory();

    static double value(byte[] json) {
        try (JsonParser parser = JSON.createParser(json)) {
            while (parser.nextToken() != null) {
                if (parser.currentToken() == JsonToken.FIELD_NAME && parser.currentName().equals("value")) {
                    parser.nextToken();
                    return parser.getDoubleValue();
                }
            }
            return 0;
        } catch (java.io.IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String brokers = arguments[0], topic = arguments[1], query = arguments[4];
        long rows = Long.parseLong(arguments[2]), keys = Long.parseLong(arguments[3]);
        boolean percentile = query.equals("p95");
        TimeWindows windows = switch (query) {
            case "hop" -> TimeWindows.ofSizeWithNoGrace(Duration.ofMinutes(1)).advanceBy(Duration.ofSeconds(10));
            case "hop-fine" -> TimeWindows.ofSizeWithNoGrace(Duration.ofMinutes(1)).advanceBy(Duration.ofSeconds(1));
            default -> TimeWindows.ofSizeWithNoGrace(Duration.ofSeconds(10));
        };
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "windows-" + query + "-" + System.nanoTime());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("streams").toString());
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, 10_000);
        AtomicLong read = new AtomicLong(), closed = new AtomicLong(), counted = new AtomicLong();
        StreamsBuilder builder = new StreamsBuilder();
        // The record's timestamp is the event's, as Fill wrote it.
        var stored = Materialized.<String, State>as(Stores.inMemoryWindowStore("windows", Duration.ofMinutes(2), Duration.ofMillis(windows.size()), false))
            .withKeySerde(Serdes.String()).withValueSerde(Serdes.serdeFrom((topic_, state) -> write(state), (topic_, bytes) -> read(bytes)));
        builder.stream(topic, Consumed.with(Serdes.String(), Serdes.ByteArray()))
            .peek((key, value) -> read.incrementAndGet())
            .groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
            .windowedBy(windows)
            .emitStrategy(EmitStrategy.onWindowClose())
            .aggregate(State::new, (key, json, state) -> { state.add(query.startsWith("hop") ? 0 : value(json), percentile); return state; }, stored)
            .toStream()
            .foreach((window, state) -> {
                closed.incrementAndGet();
                counted.addAndGet(state.count);
                if (percentile && state.p95() < 0) throw new IllegalStateException();
            });
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(error -> { error.printStackTrace(); System.exit(1); return null; });
        Report report = new Report();
        streams.start();
        while (read.get() < rows) Thread.sleep(5);
        streams.close(Duration.ofMinutes(2));
        report.print("kafka-streams", query, keys, rows, " closed_rows=" + closed.get() + " counted=" + counted.get());
    }
}
