"""Sends log lines by python-logging-loki, a handler for Python's logging, and prints what it sent as JSON.

usage: loki_handler.py URL
"""

import json
import logging
import sys
import time

import logging_loki

sent = []


class Handler(logging_loki.LokiHandler):
    """Remembers each record's time, and does not keep failures to itself."""

    def emit(self, record):
        clock, at = time.time, time.time()
        time.time = lambda: at
        try:
            self.emitter(record, self.format(record))
        finally:
            time.time = clock
        sent.append({"message": self.format(record), "timestamp_us": int(at * 1e9) // 1000})


logger = logging.getLogger("shop")
logger.setLevel(logging.INFO)
logger.addHandler(Handler(url=sys.argv[1], tags={"application": "checkout", "hostname": "web-1"}, version="1"))
for number in range(20):
    logger.info("line %d äöü \"quoted\"", number, extra={"tags": {"order": str(number)}})
logger.error("the end")
print(json.dumps(sent))
