//! A PromQL engine that knows no broker and no clock
