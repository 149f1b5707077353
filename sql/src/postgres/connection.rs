//! One client: takes its messages one after the other, and answers them.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;

use arrow::datatypes::DataType;
use futures::StreamExt;
use highwater_pipeline::data::Tenant;
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage as Answer;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete, PortalSuspended};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use super::cancel::Registered;
use super::catalog::{SessionFacts, Wanted};
use super::command::{self, Command};
use super::copy::{BINARY_HEADER, BINARY_TRAILER, CopyOut, Format, Style};
use super::encode::Rows;
use super::error::{PgError, code};
use super::login::TENANT_SETTING;
use super::portal::{Portal, Running, State};
use super::settings::Settings;
use super::statement::{Columns, Prepared, Query, What, format_of};
use super::wire::{Message, SEND_AT_BYTES, Wire};
use super::{decode, types};
use crate::engine::{Ask, Engine};
use crate::error::SqlError;
use crate::parameters::{self, Parameter};

/// Most statements that a connection may have prepared, and portals open.
const MAX_STATEMENTS: usize = 1000;
const MAX_PORTALS: usize = 100;
/// The setting that tells what the last query saw of the tables.
const SNAPSHOT_SETTING: &str = "highwater.snapshot";

/// Why a message was not done.
enum Failure {
    /// The connection is of no use any more.
    Io(io::Error),
    /// The client is told.
    Pg(PgError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        Self::Pg(error)
    }
}

type Outcome<T> = Result<T, Failure>;
/// A request to cancel, while something runs.
type Cancel<'a, 'b> = Pin<&'a mut Notified<'b>>;

/// A transaction reads only and each of its statements sees what there is then, so all that is to know is whether one is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    /// A statement failed: nothing runs until its end.
    Failed,
}

pub(super) struct Connection {
    wire: Wire,
    engine: Engine,
    closing: CancellationToken,
    tenant: Tenant,
    user: String,
    settings: Settings,
    facts: Arc<SessionFacts>,
    registered: Registered,
    transaction: Transaction,
    /// After an error of the extended protocol, everything up to the next Sync is skipped.
    skipping: bool,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    /// What the last query saw of the tables, as JSON.
    snapshot: String,
}

impl Connection {
    pub(super) fn new(
        wire: Wire,
        engine: Engine,
        closing: CancellationToken,
        tenant: Tenant,
        user: String,
        settings: Settings,
        registered: Registered,
    ) -> Self {
        let mut connection = Self {
            wire,
            engine,
            closing,
            tenant,
            user,
            settings,
            facts: Arc::default(),
            registered,
            transaction: Transaction::None,
            skipping: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            snapshot: String::new(),
        };
        connection.settings_changed();
        connection
    }

    /// What functions of the session say, after a setting changed.
    fn settings_changed(&mut self) {
        let settings = self.settings.all().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (user, pid, zone) = (self.user.clone(), self.registered.pid, self.settings.zone());
        let (zone_name, wanted) = (self.settings.zone_name(), Wanted::of(&self.settings));
        self.facts = Arc::new(SessionFacts { user, pid, settings, zone, zone_name, wanted });
    }

    /// Serves the client until one of the two ends it.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.closing.cancelled() => {
                    let goodbye = PgError::new(code::SHUTDOWN, "terminating connection due to administrator command");
                    return self.end(goodbye).await;
                }
                message = self.wire.message(true) => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return self.end(PgError::protocol(error.to_string())).await;
                }
                Err(error) => return Err(error),
            };
            match message {
                Message::Terminate => return Ok(()),
                Message::Sync => self.sync().await?,
                _ if self.skipping => {}
                Message::Query(text) => self.simple(text).await?,
                Message::Copy => {}
                Message::Password(_) => return self.end(PgError::protocol("a password was not asked for")).await,
                Message::Function => {
                    self.fail(PgError::new(code::UNSUPPORTED, "functions are called in SQL"))?;
                    self.ready().await?;
                }
                message => {
                    debug_assert!(message.is_extended());
                    match self.extended(message).await {
                        Ok(()) => {}
                        Err(Failure::Io(error)) => return Err(error),
                        Err(Failure::Pg(error)) => {
                            self.fail(error)?;
                            self.skipping = true;
                            self.wire.flush().await?;
                        }
                    }
                }
            }
        }
    }

    /// Tells the client why, and closes.
    async fn end(mut self, why: PgError) -> io::Result<()> {
        self.wire.put(Answer::ErrorResponse(why.response("FATAL")))?;
        self.wire.flush().await?;
        self.wire.close().await;
        Ok(())
    }

    fn fail(&mut self, error: PgError) -> io::Result<()> {
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
        self.wire.put(Answer::ErrorResponse(error.response("ERROR")))
    }

    async fn ready(&mut self) -> io::Result<()> {
        let status = match self.transaction {
            Transaction::None => TransactionStatus::Idle,
            Transaction::Open => TransactionStatus::Transaction,
            Transaction::Failed => TransactionStatus::Error,
        };
        self.wire.put(Answer::ReadyForQuery(ReadyForQuery::new(status)))?;
        self.wire.flush().await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.skipping = false;
        if self.transaction == Transaction::None {
            self.portals.clear();
        }
        self.ready().await
    }

    /// The simple protocol: a script, and everything it answers.
    async fn simple(&mut self, text: String) -> io::Result<()> {
        let registered = Arc::clone(&self.registered.cancel);
        let cancel = pin!(registered.notified());
        match self.script(&text, cancel).await {
            Ok(()) => {}
            Err(Failure::Io(error)) => return Err(error),
            Err(Failure::Pg(error)) => self.fail(error)?,
        }
        if self.transaction == Transaction::None {
            self.portals.clear();
        }
        self.ready().await
    }

    async fn script(&mut self, text: &str, mut cancel: Cancel<'_, '_>) -> Outcome<()> {
        let text: Arc<str> = text.into();
        let pieces = command::split(&text)?;
        if pieces.is_empty() {
            self.wire.put(Answer::EmptyQueryResponse(EmptyQueryResponse::new()))?;
        }
        for piece in pieces {
            let prepared = Prepared::parse(&text, &piece).map_err(|error| self.unless_failed(error))?;
            self.check_transaction(&prepared.what)?;
            match &prepared.what {
                What::Nothing => self.wire.put(Answer::EmptyQueryResponse(EmptyQueryResponse::new()))?,
                What::Command(command) => self.command(command, true, cancel.as_mut()).await?,
                What::Query(query) => self.simple_query(&prepared, query, cancel.as_mut()).await?,
            }
        }
        Ok(())
    }

    async fn simple_query(&mut self, prepared: &Prepared, query: &Query, mut cancel: Cancel<'_, '_>) -> Outcome<()> {
        let mut running = self.start(prepared, query, &[], None, &[], cancel.as_mut()).await?;
        self.wire.put(Answer::RowDescription(running.columns.description(&[])))?;
        let (rows, _) = self.send_rows(prepared, &mut running, None, None, cancel).await?;
        self.complete(query.tag(rows))?;
        Ok(())
    }

    fn complete(&mut self, tag: impl Into<String>) -> io::Result<()> {
        self.wire.put(Answer::CommandComplete(CommandComplete::new(tag.into())))
    }

    /// In a failed transaction, that is what the client is told first.
    fn unless_failed(&self, error: PgError) -> PgError {
        if self.transaction == Transaction::Failed { in_failed_transaction() } else { error }
    }

    fn check_transaction(&self, what: &What) -> Result<(), PgError> {
        let ends = matches!(
            what,
            What::Nothing | What::Command(Command::Commit | Command::Rollback | Command::Savepoint(_, true))
        );
        if self.transaction == Transaction::Failed && !ends { Err(in_failed_transaction()) } else { Ok(()) }
    }

    /// The extended protocol, message by message.
    async fn extended(&mut self, message: Message) -> Outcome<()> {
        let registered = Arc::clone(&self.registered.cancel);
        let cancel = pin!(registered.notified());
        match message {
            Message::Parse { name, text, types } => self.parse(name, &text, &types, cancel).await,
            Message::Bind { portal, statement, formats, values, result_formats } => {
                let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
                self.bind(portal, &statement, &formats, &values, result_formats)
            }
            Message::Describe { portal: true, name } => self.describe_portal(&name, cancel).await,
            Message::Describe { portal: false, name } => self.describe_statement(&name, cancel).await,
            Message::Execute { portal, max_rows } => self.execute(&portal, max_rows, cancel).await,
            Message::Close { portal, name } => {
                if portal {
                    self.portals.remove(&name);
                } else {
                    self.statements.remove(&name);
                }
                Ok(self.wire.put(Answer::CloseComplete(CloseComplete::new()))?)
            }
            _ => Ok(self.wire.flush().await?),
        }
    }

    async fn parse(&mut self, name: String, text: &str, given: &[u32], cancel: Cancel<'_, '_>) -> Outcome<()> {
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Err(
                PgError::new(code::STATEMENT_EXISTS, format!("prepared statement \"{name}\" already exists")).into()
            );
        }
        let prepared = Prepared::parse_one(text).map_err(|error| self.unless_failed(error))?;
        self.check_transaction(&prepared.what)?;
        self.keep_statement(name, prepared, given, cancel).await?;
        Ok(self.wire.put(Answer::ParseComplete(ParseComplete::new()))?)
    }

    async fn keep_statement(
        &mut self,
        name: String,
        mut prepared: Prepared,
        given: &[u32],
        cancel: Cancel<'_, '_>,
    ) -> Outcome<()> {
        if self.statements.len() >= MAX_STATEMENTS && !self.statements.contains_key(&name) {
            let message = format!("{MAX_STATEMENTS} statements are prepared, which is as many as may be");
            return Err(PgError::new(code::LIMIT, message).with_hint("DEALLOCATE those that are not needed.").into());
        }
        if let What::Query(query) = &prepared.what {
            prepared.types = self.parameter_types(&prepared, query, given, cancel).await?;
        }
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// The types of a query's parameters: those given, then those that follow from the query, else text.
    async fn parameter_types(
        &mut self,
        prepared: &Prepared,
        query: &Query,
        given: &[u32],
        mut cancel: Cancel<'_, '_>,
    ) -> Outcome<Vec<Type>> {
        let count = parameters::highest(&query.statement).map_err(|error| prepared.error(&error))?;
        let mut found: Vec<Option<Type>> = (0..count.max(given.len()))
            .map(|i| {
                let given = given.get(i).copied().filter(|oid| *oid != 0).and_then(Type::from_oid);
                given.filter(|pg_type| *pg_type != Type::UNKNOWN).or_else(|| query.parameters.get(i).cloned().flatten())
            })
            .collect();
        if found.iter().take(count).any(Option::is_none) {
            let mut ask = self.ask(query);
            let lists = parameters::take_lists(&mut ask.statement);
            let counts = parameters::counts(&ask.statement);
            let asked = self.engine.parameter_types(self.tenant.as_str(), ask);
            // What cannot be planned without knowing them is planned again with text, and then says what is wrong with it.
            let inferred = interruptible(&mut self.wire, cancel.as_mut(), asked).await?.unwrap_or_default();
            for (i, slot) in found.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
                let name = format!("${}", i + 1);
                let data_type = inferred.get(&name).and_then(Option::as_ref);
                let scalar = data_type.filter(|t| **t != DataType::Null).map(types::of);
                *slot = match () {
                    () if lists.contains(&name) => Some(types::array_of(&scalar.unwrap_or(Type::TEXT))),
                    () if counts.contains(&name) => Some(Type::INT8),
                    () => scalar,
                };
            }
        }
        Ok(found.into_iter().map(|slot| slot.unwrap_or(Type::TEXT)).collect())
    }

    fn bind(
        &mut self,
        portal: String,
        statement: &str,
        formats: &[i16],
        values: &[Option<&[u8]>],
        result_formats: Vec<i16>,
    ) -> Outcome<()> {
        let prepared = self.statement(statement)?;
        self.check_transaction(&prepared.what)?;
        if values.len() != prepared.types.len() {
            return Err(PgError::protocol(format!(
                "bind message supplies {} parameters, but prepared statement \"{statement}\" requires {}",
                values.len(),
                prepared.types.len()
            ))
            .into());
        }
        if formats.len() > 1 && formats.len() != values.len() {
            return Err(PgError::protocol(format!(
                "bind message has {} parameter formats but {} parameters",
                formats.len(),
                values.len()
            ))
            .into());
        }
        if let Some(format) = formats.iter().chain(&result_formats).find(|format| !(0..=1).contains(*format)) {
            return Err(PgError::new(code::INVALID_VALUE, format!("unsupported format code: {format}")).into());
        }
        let parameters = values
            .iter()
            .zip(&prepared.types)
            .enumerate()
            .map(|(i, (value, pg_type))| decode::value(pg_type, format_of(formats, i) == 1, *value, i + 1))
            .collect::<Result<Vec<_>, _>>()?;
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(PgError::new(code::CURSOR_EXISTS, format!("cursor \"{portal}\" already exists")).into());
        }
        self.keep_portal(portal, Portal { prepared, parameters, formats: result_formats, state: State::New })?;
        Ok(self.wire.put(Answer::BindComplete(BindComplete::new()))?)
    }

    fn keep_portal(&mut self, name: String, portal: Portal) -> Result<(), PgError> {
        if self.portals.len() >= MAX_PORTALS && !self.portals.contains_key(&name) {
            return Err(PgError::new(
                code::LIMIT,
                format!("{MAX_PORTALS} portals are open, which is as many as may be"),
            ));
        }
        self.portals.insert(name, portal);
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>, PgError> {
        let found = self.statements.get(name).map(Arc::clone);
        found.ok_or_else(|| PgError::new(code::NO_STATEMENT, format!("prepared statement \"{name}\" does not exist")))
    }

    async fn describe_statement(&mut self, name: &str, cancel: Cancel<'_, '_>) -> Outcome<()> {
        let prepared = self.statement(name)?;
        let columns = self.columns(&prepared, cancel).await?;
        let types = prepared.types.iter().map(Type::oid).collect();
        self.wire.put(Answer::ParameterDescription(ParameterDescription::new(types)))?;
        self.put_columns(columns.as_deref(), &[])
    }

    async fn describe_portal(&mut self, name: &str, cancel: Cancel<'_, '_>) -> Outcome<()> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        let (prepared, formats) = (Arc::clone(&portal.prepared), portal.formats.clone());
        let columns = self.columns(&prepared, cancel).await?;
        self.put_columns(columns.as_deref(), &formats)
    }

    fn put_columns(&mut self, columns: Option<&Columns>, formats: &[i16]) -> Outcome<()> {
        Ok(self.wire.put(match columns {
            Some(columns) => Answer::RowDescription(columns.description(formats)),
            None => Answer::NoData(NoData::new()),
        })?)
    }

    /// The columns of what a statement answers; `None` where it answers no rows.
    async fn columns(&mut self, prepared: &Prepared, cancel: Cancel<'_, '_>) -> Outcome<Option<Arc<Columns>>> {
        match &prepared.what {
            What::Nothing => Ok(None),
            What::Command(Command::Show(name)) => Ok(Some(Arc::new(self.show_columns(name.as_deref())?))),
            What::Command(Command::Fetch { name, .. }) => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                let of = Arc::clone(&portal.prepared);
                match &of.what {
                    What::Query(query) => self.query_columns(&of, query, cancel).await.map(Some),
                    _ => Ok(None),
                }
            }
            What::Command(_) => Ok(None),
            What::Query(query) => self.query_columns(prepared, query, cancel).await.map(Some),
        }
    }

    async fn query_columns(
        &mut self,
        prepared: &Prepared,
        query: &Query,
        mut cancel: Cancel<'_, '_>,
    ) -> Outcome<Arc<Columns>> {
        if let Some(columns) = prepared.known_columns() {
            return Ok(columns);
        }
        let mut schema = None;
        // Some places take no NULL, as the ends of generate_series.
        for value in [decode::null, decode::some] {
            let mut ask = self.ask(query);
            let values: Vec<Parameter> = prepared.types.iter().map(value).collect();
            put(&mut ask, &values, prepared)?;
            let asked = self.engine.columns(self.tenant.as_str(), ask);
            let planned = interruptible(&mut self.wire, cancel.as_mut(), asked).await?;
            let failed = planned.is_err();
            match &schema {
                // The first error is the one to tell.
                Some(Err(_)) if failed => {}
                _ => schema = Some(planned),
            }
            if !failed || values.is_empty() {
                break;
            }
        }
        let Some(schema) = schema else { return Err(no_portal("").into()) };
        let schema = schema.map_err(|error| prepared.error(&error))?;
        Ok(prepared.know_columns(query, &schema))
    }

    async fn execute(&mut self, name: &str, max_rows: i32, mut cancel: Cancel<'_, '_>) -> Outcome<()> {
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        let prepared = Arc::clone(&portal.prepared);
        self.check_transaction(&prepared.what)?;
        match &prepared.what {
            What::Nothing => Ok(self.wire.put(Answer::EmptyQueryResponse(EmptyQueryResponse::new()))?),
            What::Command(command) => self.command(command, false, cancel).await,
            What::Query(query) => {
                let max_rows = u64::try_from(max_rows).ok().filter(|max| *max > 0);
                let (rows, done) = self.fetch(name, max_rows, cancel.as_mut()).await?;
                if done {
                    self.complete(query.tag(rows))?;
                } else {
                    self.wire.put(Answer::PortalSuspended(PortalSuspended::new()))?;
                }
                Ok(())
            }
        }
    }

    /// Sends rows of a portal, up to so many. Gives their number, and whether they were the last.
    async fn fetch(&mut self, name: &str, max_rows: Option<u64>, mut cancel: Cancel<'_, '_>) -> Outcome<(u64, bool)> {
        let portal = self.portals.get_mut(name).ok_or_else(|| no_portal(name))?;
        let prepared = Arc::clone(&portal.prepared);
        let What::Query(query) = &prepared.what else { return Err(no_portal(name).into()) };
        let mut running = match std::mem::replace(&mut portal.state, State::Done) {
            State::Done => return Ok((0, true)),
            State::Running(running) => running,
            State::New => {
                let (parameters, formats) = (std::mem::take(&mut portal.parameters), portal.formats.clone());
                let known = prepared.known_columns();
                Box::new(self.start(&prepared, query, &parameters, known, &formats, cancel.as_mut()).await?)
            }
        };
        let (rows, done) = self.send_rows(&prepared, &mut running, max_rows, None, cancel).await?;
        if !done && let Some(portal) = self.portals.get_mut(name) {
            portal.state = State::Running(running);
        }
        Ok((rows, done))
    }

    fn ask(&self, query: &Query) -> Ask {
        Ask {
            statement: query.statement.clone(),
            postgres: (!query.is_ours).then(|| Arc::clone(&self.facts)),
            timeout: self.settings.statement_timeout(),
            waits: true,
        }
    }

    /// Starts a query.
    async fn start(
        &mut self,
        prepared: &Prepared,
        query: &Query,
        parameters: &[Parameter],
        known: Option<Arc<Columns>>,
        formats: &[i16],
        cancel: Cancel<'_, '_>,
    ) -> Outcome<Running> {
        let mut ask = self.ask(query);
        put(&mut ask, parameters, prepared)?;
        let run = self.engine.run(self.tenant.as_str(), ask);
        let result =
            interruptible(&mut self.wire, cancel, run).await?.map_err(|error| self.query_error(prepared, &error))?;
        self.snapshot = serde_json::to_string(result.info()).unwrap_or_default();
        let columns = known.unwrap_or_else(|| Arc::new(query.columns(&result.schema())));
        Ok(Running::new(result, columns, formats, self.settings.zone())?)
    }

    /// Sends rows as they come, up to so many. Gives their number, and whether they were the last.
    async fn send_rows(
        &mut self,
        prepared: &Prepared,
        running: &mut Running,
        max_rows: Option<u64>,
        copied: Option<&Style>,
        mut cancel: Cancel<'_, '_>,
    ) -> Outcome<(u64, bool)> {
        let broken =
            |error: arrow::error::ArrowError| PgError::of(&SqlError::Execution { message: error.to_string() }, "", 0);
        let mut sent = 0;
        loop {
            if let Some(rows) = &mut running.rows {
                while rows.left() > 0 {
                    if max_rows == Some(sent) {
                        return Ok((sent, false));
                    }
                    let begin = self.wire.out.len();
                    let written = match copied {
                        None => rows.write(&mut self.wire.out),
                        Some(style) => rows.write_copy(style, sent == 0, &mut self.wire.out),
                    };
                    if let Err(error) = written {
                        self.wire.out.truncate(begin);
                        return Err(broken(error).into());
                    }
                    sent += 1;
                    if self.wire.out.len() >= SEND_AT_BYTES {
                        self.flush(cancel.as_mut()).await?;
                    }
                }
                running.rows = None;
            }
            if max_rows == Some(sent) {
                return Ok((sent, false));
            }
            match interruptible(&mut self.wire, cancel.as_mut(), running.result.next()).await? {
                None => {
                    self.set_as_wanted()?;
                    return Ok((sent, true));
                }
                Some(Err(error)) => return Err(self.query_error(prepared, &error).into()),
                Some(Ok(batch)) => {
                    running.rows = Some(Rows::new(&batch, &running.formats, running.zone).map_err(broken)?);
                }
            }
        }
    }

    /// Sends what is gathered. A client that reads nothing for as long as a query may take is gone.
    async fn flush(&mut self, cancel: Cancel<'_, '_>) -> Outcome<()> {
        let limit = self.engine.config().timeout;
        tokio::select! {
            biased;
            () = cancel => Err(canceled().into()),
            flushed = tokio::time::timeout(limit, self.wire.flush()) => match flushed {
                Ok(flushed) => Ok(flushed?),
                Err(_) => Err(Failure::Io(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its rows"))),
            },
        }
    }

    fn query_error(&self, prepared: &Prepared, error: &SqlError) -> PgError {
        match error {
            SqlError::Timeout { limit } if *limit < self.engine.config().timeout => {
                PgError::new(code::CANCELED, "canceling statement due to statement timeout")
            }
            error => prepared.error(error),
        }
    }

    /// Does a command of the session. `describes` where its rows' columns are told with them.
    async fn command(&mut self, command: &Command, describes: bool, mut cancel: Cancel<'_, '_>) -> Outcome<()> {
        match command {
            Command::Begin => {
                if self.transaction == Transaction::Open {
                    self.notice(code::IN_TRANSACTION, "there is already a transaction in progress")?;
                }
                self.transaction = Transaction::Open;
                self.complete("BEGIN")?;
            }
            Command::Commit => {
                self.end_transaction(if self.transaction == Transaction::Failed { "ROLLBACK" } else { "COMMIT" })?
            }
            Command::Rollback => self.end_transaction("ROLLBACK")?,
            Command::Savepoint(tag, heals) => {
                if self.transaction == Transaction::None {
                    let message = format!("{tag} can only be used in transaction blocks");
                    return Err(PgError::new(code::NO_TRANSACTION, message).into());
                }
                if *heals {
                    self.transaction = Transaction::Open;
                }
                self.complete(*tag)?;
            }
            Command::Set(name, value) => {
                self.refuse_own_setting(name)?;
                let changed = match value {
                    Some(value) => self.settings.set(name, value)?,
                    None => self.settings.reset(name)?,
                };
                self.tell(changed)?;
                self.complete("SET")?;
            }
            Command::SetNothing => self.complete("SET")?,
            Command::Reset(name) => {
                match name {
                    Some(name) => {
                        self.refuse_own_setting(name)?;
                        let changed = self.settings.reset(name)?;
                        self.tell(changed)?;
                    }
                    None => {
                        let changed = self.settings.reset_all();
                        self.tell(changed)?;
                    }
                }
                self.complete("RESET")?;
            }
            Command::Show(name) => self.show(name.as_deref(), describes)?,
            Command::Discard(what) => {
                if what == "ALL" {
                    if self.transaction != Transaction::None {
                        let message = "DISCARD ALL cannot run inside a transaction block";
                        return Err(PgError::new(code::IN_TRANSACTION, message).into());
                    }
                    self.statements.clear();
                    self.portals.clear();
                    let changed = self.settings.reset_all();
                    self.tell(changed)?;
                }
                self.complete(format!("DISCARD {what}"))?;
            }
            Command::Prepare { name, types, query } => self.sql_prepare(name, types, query, cancel).await?,
            Command::Execute { name, arguments } => {
                let (prepared, query) = self.sql_execute(name, arguments)?;
                if !describes {
                    return Err(PgError::new(
                        code::UNSUPPORTED,
                        "EXECUTE goes by the simple protocol; bind the statement instead",
                    )
                    .into());
                }
                self.simple_query(&prepared, &query, cancel.as_mut()).await?;
            }
            Command::Deallocate(None) => {
                self.statements.clear();
                self.complete("DEALLOCATE ALL")?;
            }
            Command::Deallocate(Some(name)) => {
                self.statement(name)?;
                self.statements.remove(name);
                self.complete("DEALLOCATE")?;
            }
            Command::Declare { name, query } => {
                if self.transaction == Transaction::None {
                    return Err(PgError::new(
                        code::NO_TRANSACTION,
                        "DECLARE CURSOR can only be used in transaction blocks",
                    )
                    .into());
                }
                if self.portals.contains_key(name) {
                    return Err(PgError::new(code::CURSOR_EXISTS, format!("cursor \"{name}\" already exists")).into());
                }
                let prepared = Prepared::parse_one(query)?;
                if !matches!(prepared.what, What::Query(_)) {
                    return Err(PgError::new(code::SYNTAX, "a cursor is over a query").into());
                }
                let prepared = Arc::new(prepared);
                let portal = Portal { prepared, parameters: Vec::new(), formats: Vec::new(), state: State::New };
                self.keep_portal(name.clone(), portal)?;
                self.complete("DECLARE CURSOR")?;
            }
            Command::Fetch { count, name } => self.fetch_cursor(*count, name, describes, cancel).await?,
            Command::Move { count, name } => {
                let begin = self.wire.out.len();
                let (rows, _) = self.fetch(name, count.map(|n| n as u64), cancel.as_mut()).await?;
                // Rows that are passed over are not sent; those of a long way have been.
                self.wire.out.truncate(begin.min(self.wire.out.len()));
                self.complete(format!("MOVE {rows}"))?;
            }
            Command::Close(None) => {
                self.portals.clear();
                self.complete("CLOSE CURSOR ALL")?;
            }
            Command::Close(Some(name)) => {
                self.portals.remove(name).ok_or_else(|| no_portal(name))?;
                self.complete("CLOSE CURSOR")?;
            }
            Command::Copy(copy) => self.copy(copy, cancel).await?,
            Command::Listen(tag) => self.complete(*tag)?,
            Command::Query => {}
        }
        Ok(())
    }

    /// Sends the rows of a query as those of a COPY.
    async fn copy(&mut self, copy: &CopyOut, mut cancel: Cancel<'_, '_>) -> Outcome<()> {
        let prepared = Prepared::parse_one(&copy.query).map_err(PgError::without_place)?;
        let What::Query(query) = &prepared.what else {
            return Err(PgError::new(code::SYNTAX, "COPY takes a query").into());
        };
        let format = i16::from(copy.style.format == Format::Binary);
        let run = self.start(&prepared, query, &[], None, &[format], cancel.as_mut()).await;
        let mut running = match run {
            Err(Failure::Pg(error)) => return Err(error.without_place().into()),
            run => run?,
        };
        let columns = running.columns.0.len();
        let response = CopyOutResponse::new(format as i8, columns as i16, vec![format; columns]);
        self.wire.put(Answer::CopyOutResponse(response))?;
        if copy.style.header {
            let mut header = bytes::BytesMut::new();
            for (i, column) in running.columns.0.iter().enumerate() {
                if i > 0 {
                    header.extend_from_slice(&[copy.style.delimiter]);
                }
                let begin = header.len();
                header.extend_from_slice(column.name.as_bytes());
                copy.style.finish(begin, &mut header);
            }
            header.extend_from_slice(b"\n");
            self.put_copy(&header)?;
        }
        let (rows, _) = self.send_rows(&prepared, &mut running, None, Some(&copy.style), cancel).await?;
        if copy.style.format == Format::Binary {
            // The header goes with the first row, or else with the end.
            let header = if rows == 0 { BINARY_HEADER } else { &[] };
            self.put_copy(&[header, BINARY_TRAILER].concat())?;
        }
        self.wire.put(Answer::CopyDone(CopyDone::new()))?;
        Ok(self.complete(format!("COPY {rows}"))?)
    }

    fn put_copy(&mut self, data: &[u8]) -> io::Result<()> {
        self.wire.put(Answer::CopyData(CopyData::new(bytes::Bytes::copy_from_slice(data))))
    }

    fn notice(&mut self, code: &'static str, message: &str) -> io::Result<()> {
        let fields = PgError::new(code, message).response("WARNING").fields;
        self.wire.put(Answer::NoticeResponse(pgwire::messages::response::NoticeResponse::new(fields)))
    }

    fn end_transaction(&mut self, tag: &str) -> io::Result<()> {
        if self.transaction == Transaction::None {
            self.notice(code::NO_TRANSACTION, "there is no transaction in progress")?;
        }
        self.transaction = Transaction::None;
        self.portals.clear();
        self.complete(tag)
    }

    /// The tenant is that of the login, for good.
    fn refuse_own_setting(&self, name: &str) -> Result<(), PgError> {
        if [TENANT_SETTING, SNAPSHOT_SETTING].contains(&name.to_lowercase().as_str()) {
            return Err(PgError::new("55P02", format!("parameter \"{name}\" cannot be set after connection start")));
        }
        Ok(())
    }

    /// Tells the client of settings that changed.
    fn tell(&mut self, changed: impl IntoIterator<Item = (String, String)>) -> io::Result<()> {
        for (name, value) in changed {
            self.wire.put(Answer::ParameterStatus(ParameterStatus::new(name, value)))?;
        }
        self.settings_changed();
        Ok(())
    }

    /// What `set_config` has set in the statement that is through.
    fn set_as_wanted(&mut self) -> Outcome<()> {
        let wanted = self.facts.wanted.take();
        if !wanted.is_empty() {
            let changed: Vec<_> =
                wanted.iter().map(|(name, value)| self.settings.set(name, value)).collect::<Result<_, PgError>>()?;
            self.tell(changed.into_iter().flatten())?;
        }
        Ok(())
    }

    fn show_columns(&self, name: Option<&str>) -> Result<Columns, PgError> {
        match name {
            None => Ok(Columns::of_text(&["name", "setting", "description"])),
            Some(name) => Ok(Columns::of_text(&[self.setting(name)?.0])),
        }
    }

    fn setting<'a>(&'a self, name: &'a str) -> Result<(&'a str, &'a str), PgError> {
        match name.to_lowercase().as_str() {
            SNAPSHOT_SETTING => Ok((SNAPSHOT_SETTING, &self.snapshot)),
            TENANT_SETTING => Ok((TENANT_SETTING, self.tenant.as_str())),
            _ => self.settings.show(name),
        }
    }

    fn show(&mut self, name: Option<&str>, describes: bool) -> Outcome<()> {
        let columns = self.show_columns(name)?;
        let rows: Vec<Vec<String>> = match name {
            Some(name) => vec![vec![self.setting(name)?.1.to_string()]],
            None => self
                .settings
                .all()
                .map(|(name, value)| vec![name.to_string(), value.to_string(), String::new()])
                .collect(),
        };
        if describes {
            self.wire.put(Answer::RowDescription(columns.description(&[])))?;
        }
        for row in rows {
            let mut data = bytes::BytesMut::new();
            for value in &row {
                bytes::BufMut::put_i32(&mut data, i32::try_from(value.len()).unwrap_or(0));
                bytes::BufMut::put_slice(&mut data, value.as_bytes());
            }
            self.wire.put(Answer::DataRow(pgwire::messages::data::DataRow::new(data, row.len() as i16)))?;
        }
        Ok(self.complete("SHOW")?)
    }

    async fn sql_prepare(&mut self, name: &str, types: &[String], query: &str, cancel: Cancel<'_, '_>) -> Outcome<()> {
        if self.statements.contains_key(name) {
            return Err(
                PgError::new(code::STATEMENT_EXISTS, format!("prepared statement \"{name}\" already exists")).into()
            );
        }
        let given = types.iter().map(|name| types::by_name(name).map(|t| t.oid())).collect::<Result<Vec<u32>, _>>()?;
        let prepared = Prepared::parse_one(query)?;
        if !matches!(prepared.what, What::Query(_)) {
            return Err(PgError::new(code::SYNTAX, "only queries are prepared").into());
        }
        self.keep_statement(name.to_string(), prepared, &given, cancel).await?;
        Ok(self.complete("PREPARE")?)
    }

    /// The statement that EXECUTE names, with the arguments in it.
    fn sql_execute(&self, name: &str, arguments: &[String]) -> Result<(Arc<Prepared>, Query), PgError> {
        let prepared = self.statement(name)?;
        let What::Query(query) = &prepared.what else {
            return Err(PgError::new(code::SYNTAX, "only queries are executed"));
        };
        if arguments.len() != prepared.types.len() {
            let (message, expected) =
                (format!("wrong number of parameters for prepared statement \"{name}\""), prepared.types.len());
            return Err(PgError::new(code::SYNTAX, message)
                .with_hint(format!("Expected {expected} parameters but got {}.", arguments.len())));
        }
        let exprs = arguments
            .iter()
            .zip(&prepared.types)
            .map(|(argument, pg_type)| parameters::expression(argument, decode::arrow_type(pg_type).as_ref()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| PgError::of(&error, "", 0))?;
        let mut query = (**query).clone();
        parameters::put_exprs(&mut query.statement, &exprs).map_err(|error| prepared.error(&error))?;
        Ok((prepared, query))
    }

    async fn fetch_cursor(
        &mut self,
        count: Option<usize>,
        name: &str,
        describes: bool,
        mut cancel: Cancel<'_, '_>,
    ) -> Outcome<()> {
        if describes {
            let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
            let prepared = Arc::clone(&portal.prepared);
            let columns = self.columns(&prepared, cancel.as_mut()).await?;
            self.put_columns(columns.as_deref(), &[])?;
        }
        let rows = match count {
            Some(0) => 0,
            count => self.fetch(name, count.map(|n| n as u64), cancel).await?.0,
        };
        Ok(self.complete(format!("FETCH {rows}"))?)
    }
}

/// Puts parameters into what is asked.
fn put(ask: &mut Ask, values: &[Parameter], prepared: &Prepared) -> Result<(), PgError> {
    parameters::put_known(&mut ask.statement, values).map_err(|error| prepared.error(&error))
}

/// Waits for work, for a request to cancel it, and for the client to go.
async fn interruptible<T>(wire: &mut Wire, cancel: Cancel<'_, '_>, work: impl Future<Output = T>) -> Outcome<T> {
    tokio::select! {
        biased;
        () = cancel => Err(canceled().into()),
        done = work => Ok(done),
        () = wire.gone() => Err(Failure::Io(io::Error::new(io::ErrorKind::ConnectionAborted, "the client went while a query ran"))),
    }
}

fn canceled() -> PgError {
    PgError::new(code::CANCELED, "canceling statement due to user request")
}

fn in_failed_transaction() -> PgError {
    PgError::new(
        code::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

fn no_portal(name: &str) -> PgError {
    PgError::new(code::NO_CURSOR, format!("portal \"{name}\" does not exist"))
}
