import datetime, decimal, json, sys
import duckdb

directory = sys.argv[1]
connection = duckdb.connect()
connection.execute(f"""CREATE TABLE logs AS SELECT * FROM read_json('{directory}/logs.ndjson', format='newline_delimited', columns={{
    timestamp: 'TIMESTAMP', level: 'VARCHAR', service: 'VARCHAR', host: 'VARCHAR', message: 'VARCHAR', trace_id: 'VARCHAR',
    attributes: 'MAP(VARCHAR, VARCHAR)'}})""")
connection.execute(f"""CREATE TABLE metrics AS SELECT * FROM read_json('{directory}/metrics.ndjson', format='newline_delimited', columns={{
    timestamp: 'TIMESTAMP', name: 'VARCHAR', value: 'DOUBLE', labels: 'JSON'}})""")
EPOCH = datetime.datetime(1970, 1, 1)


def plain(value):
    if isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value


answers = []
for query in json.load(open(f"{directory}/queries.json")):
    try:
        answers.append([[plain(value) for value in row] for row in connection.execute(query).fetchall()])
    except Exception as error:
        answers.append(str(error))
json.dump(answers, sys.stdout)
