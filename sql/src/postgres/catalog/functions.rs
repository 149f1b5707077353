//! Functions of the system catalog. Most have one answer here: nobody but the reader has privileges, there are no comments and no constraints.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{array_bounds_udf, format_type, quote_ident_udf};

use super::format::Format;
use super::relations::{Relation, Relations};
use super::{SessionFacts, Wanted};
use crate::postgres::settings::SERVER_VERSION;
use crate::postgres::types;

/// Functions that answer alike on every connection.
pub(super) fn fixed() -> Vec<ScalarUDF> {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_string()));
    let no_text = || ScalarValue::Utf8(None);
    let yes = || ScalarValue::Boolean(Some(true));
    let no = || ScalarValue::Boolean(Some(false));
    let nothing = || ScalarValue::Int64(Some(0));
    let constants = [
        ("current_database", text(super::DATABASE)),
        ("current_catalog", text(super::DATABASE)),
        ("current_schema", text(crate::catalog::SCHEMA)),
        ("version", text(&version())),
        ("pg_get_userbyid", text("highwater")),
        ("obj_description", no_text()),
        ("col_description", no_text()),
        ("shobj_description", no_text()),
        ("pg_get_expr", no_text()),
        ("pg_get_constraintdef", no_text()),
        ("pg_get_indexdef", no_text()),
        ("pg_get_ruledef", no_text()),
        ("pg_get_triggerdef", no_text()),
        ("pg_get_functiondef", no_text()),
        ("pg_get_function_arguments", no_text()),
        ("pg_get_function_identity_arguments", no_text()),
        ("pg_get_function_result", no_text()),
        ("pg_get_function_sqlbody", no_text()),
        ("pg_get_partkeydef", no_text()),
        ("pg_get_serial_sequence", no_text()),
        ("pg_get_statisticsobjdef_columns", no_text()),
        ("pg_tablespace_location", text("")),
        ("inet_server_addr", no_text()),
        ("inet_client_addr", no_text()),
        ("inet_server_port", ScalarValue::Int32(None)),
        ("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        ("pg_is_in_recovery", no()),
        ("pg_is_other_temp_schema", no()),
        ("pg_relation_is_publishable", no()),
        // There is one encoding.
        ("pg_encoding_to_char", text("UTF8")),
        ("getdatabaseencoding", text("UTF8")),
        ("pg_char_to_encoding", ScalarValue::Int32(Some(6))),
        ("pg_relation_is_updatable", ScalarValue::Int32(Some(0))),
        ("pg_column_is_updatable", no()),
        ("pg_type_is_visible", yes()),
        ("pg_function_is_visible", yes()),
        ("pg_operator_is_visible", yes()),
        ("pg_collation_is_visible", yes()),
        ("pg_opclass_is_visible", yes()),
        ("pg_opfamily_is_visible", yes()),
        ("pg_conversion_is_visible", yes()),
        ("pg_statistics_obj_is_visible", yes()),
        ("pg_ts_config_is_visible", yes()),
        ("pg_ts_dict_is_visible", yes()),
        ("pg_ts_parser_is_visible", yes()),
        ("pg_ts_template_is_visible", yes()),
        ("has_any_column_privilege", yes()),
        ("has_language_privilege", yes()),
        ("has_tablespace_privilege", yes()),
        ("has_foreign_data_wrapper_privilege", no()),
        ("has_server_privilege", no()),
        ("has_table_privilege", yes()),
        ("has_schema_privilege", yes()),
        ("has_database_privilege", yes()),
        ("has_column_privilege", yes()),
        ("has_function_privilege", yes()),
        ("has_type_privilege", yes()),
        ("has_sequence_privilege", no()),
        ("pg_has_role", yes()),
        ("pg_relation_size", nothing()),
        ("pg_total_relation_size", nothing()),
        ("pg_table_size", nothing()),
        ("pg_indexes_size", nothing()),
        ("pg_tablespace_size", nothing()),
        ("pg_database_size", nothing()),
        ("pg_stat_get_numscans", nothing()),
        ("txid_current", nothing()),
        ("pg_advisory_unlock_all", text("")),
    ];
    let mut all: Vec<ScalarUDF> =
        constants.into_iter().map(|(name, value)| ScalarUDF::from(Constant::new(name, value))).collect();
    all.extend([
        ScalarUDF::from(CurrentSchemas::new()),
        ScalarUDF::from(TypeOf::new()),
        ScalarUDF::from(Lookup::type_of_name()),
        ScalarUDF::from(Format::new()),
        array_bounds_udf::create_array_upper_udf(),
        array_bounds_udf::create_array_lower_udf(),
        format_type::create_format_type_udf(),
        quote_ident_udf::create_quote_ident_udf(),
        quote_ident_udf::create_parse_ident_udf(),
    ]);
    all
}

/// Functions that answer for one connection.
pub(super) fn of_session(
    facts: &Arc<SessionFacts>,
    relations: &Arc<Relations>,
    state: &mut SessionState,
) -> Result<()> {
    state.register_udf(Arc::new(ScalarUDF::from(Lookup::relation(relations))))?;
    for name in [VIEW_DEFINITION, IS_VISIBLE] {
        state.register_udf(Arc::new(ScalarUDF::from(OfRelation::new(name, relations))))?;
    }
    let user = ScalarValue::Utf8(Some(facts.user.clone()));
    for name in ["current_user", "session_user", "current_role", "user"] {
        state.register_udf(Arc::new(ScalarUDF::from(Constant::new(name, user.clone()))))?;
    }
    let pid = ScalarValue::Int32(Some(facts.pid));
    state.register_udf(Arc::new(ScalarUDF::from(Constant::new("pg_backend_pid", pid))))?;
    state.register_udf(Arc::new(ScalarUDF::from(CurrentSetting::new(facts))))?;
    state.register_udf(Arc::new(ScalarUDF::from(SetConfig::new(facts))))?;
    Ok(())
}

/// What `version()` says.
fn version() -> String {
    format!(
        "PostgreSQL {SERVER_VERSION} (Highwater {}) on {}-linux, 64-bit",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    )
}

/// One value, whatever is asked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        let any = (0..=6).map(|n| if n == 0 { TypeSignature::Nullary } else { TypeSignature::Any(n) });
        Self { name, value, signature: Signature::one_of(any.collect(), Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_schemas(with the system's)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSchemas(Signature);

impl CurrentSchemas {
    fn new() -> Self {
        Self(Signature::exact(vec![DataType::Boolean], Volatility::Stable))
    }
}

impl ScalarUDFImpl for CurrentSchemas {
    fn name(&self) -> &'static str {
        "current_schemas"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let system = matches!(args.args.first(), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
        let names = if system { vec![super::PG_CATALOG, crate::catalog::SCHEMA] } else { vec![crate::catalog::SCHEMA] };
        let list = SingleRowListArrayBuilder::new(Arc::new(StringArray::from(names)));
        Ok(ColumnarValue::Scalar(ScalarValue::List(Arc::new(list.build_list_array()))))
    }
}

/// `pg_typeof(value)`: the name of its type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf(Signature);

impl TypeOf {
    fn new() -> Self {
        Self(Signature::any(1, Volatility::Stable))
    }
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &'static str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = args.arg_fields.first().map(|field| {
            let pg_type = types::type_of(field);
            match types::element_of(&pg_type) {
                Some(element) => format!("{}[]", types::standard_name(&element)),
                None => types::standard_name(&pg_type).to_string(),
            }
        });
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(name)))
    }
}

/// `to_regtype(name)`, `to_regclass(name)`: the identifier, or NULL where nothing is called so.
#[derive(Debug)]
struct Lookup {
    name: &'static str,
    /// The tables there are, or none for types.
    relations: Option<Arc<Relations>>,
    signature: Signature,
}

impl Lookup {
    fn type_of_name() -> Self {
        Self {
            name: "to_regtype",
            relations: None,
            signature: Signature::exact(vec![DataType::Utf8], Volatility::Stable),
        }
    }

    fn relation(relations: &Arc<Relations>) -> Self {
        Self { name: "to_regclass", relations: Some(Arc::clone(relations)), ..Self::type_of_name() }
    }

    fn oid(&self, name: &str) -> Option<i32> {
        match &self.relations {
            None => types::by_name(name.trim_start_matches("pg_catalog.")).ok().map(|t| t.oid().cast_signed()),
            Some(relations) => relations.oid_of(name),
        }
    }
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Lookup {}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some(names) = args.args.into_iter().next() else { return exec_err!("{} takes a name", self.name) };
        let names = names.into_array(rows)?;
        let oids: Int32Array = names.as_string::<i32>().iter().map(|name| self.oid(name?)).collect();
        Ok(ColumnarValue::Array(Arc::new(oids)))
    }
}

/// `pg_get_viewdef(view [, pretty])`: its text, NULL for what is no view. `pg_table_is_visible(table)`: whether its name alone means it.
#[derive(Debug)]
struct OfRelation {
    name: &'static str,
    relations: Arc<Relations>,
    signature: Signature,
}

const VIEW_DEFINITION: &str = "pg_get_viewdef";
const IS_VISIBLE: &str = "pg_table_is_visible";

impl OfRelation {
    fn new(name: &'static str, relations: &Arc<Relations>) -> Self {
        let signature = Signature::one_of(vec![TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Stable);
        Self { name, relations: Arc::clone(relations), signature }
    }

    /// A table by its number or its name.
    fn find(&self, table: &str) -> Option<&Relation> {
        let oid = table.parse().ok().or_else(|| self.relations.oid_of(table));
        self.relations.0.iter().find(|relation| Some(relation.oid) == oid)
    }
}

// One session has one of each.
impl PartialEq for OfRelation {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.relations, &other.relations)
    }
}

impl Eq for OfRelation {}

impl Hash for OfRelation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for OfRelation {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(if self.name == IS_VISIBLE { DataType::Boolean } else { DataType::Utf8 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(tables) = args.args.first() else { return exec_err!("{} takes a table", self.name) };
        let tables = arrow::compute::cast(&tables.to_array(args.number_rows)?, &DataType::Utf8)?;
        let tables = tables.as_string::<i32>().iter();
        let found: ArrayRef = match self.name {
            // The schema of the standard is not on the search path; what is none of these (an index) is nobody's.
            IS_VISIBLE => {
                let is_visible = |table: &str| self.find(table).is_none_or(|r| r.schema != super::INFORMATION_SCHEMA);
                Arc::new(tables.map(|table| table.map(is_visible)).collect::<BooleanArray>())
            }
            _ => Arc::new(tables.map(|table| self.find(table?).and_then(|r| r.definition)).collect::<StringArray>()),
        };
        Ok(ColumnarValue::Array(found))
    }
}

/// `set_config(name, value, is_local)`: sets it once the statement is through, and gives the value as it is shown.
#[derive(Debug)]
struct SetConfig {
    wanted: Wanted,
    signature: Signature,
}

impl SetConfig {
    fn new(facts: &SessionFacts) -> Self {
        // Volatile, so that it is done when the statement runs and not when it is planned.
        let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8, DataType::Boolean], Volatility::Volatile);
        Self { wanted: facts.wanted.clone(), signature }
    }
}

// One session has one of it.
impl PartialEq for SetConfig {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for SetConfig {}

impl Hash for SetConfig {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &'static str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays: Vec<ArrayRef> = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<_>>()?;
        let [names, values, _] = arrays.as_slice() else {
            return exec_err!("set_config takes 3 arguments, and not {}", arrays.len());
        };
        let set = |(name, value): (Option<&str>, Option<&str>)| match (name, value) {
            (Some(name), value) => match self.wanted.set(name, value.unwrap_or_default()) {
                Ok(shown) => Ok(Some(shown)),
                Err(refused) => exec_err!("{refused}"),
            },
            (None, _) => exec_err!("SET requires parameter name"),
        };
        let shown = names.as_string::<i32>().iter().zip(values.as_string::<i32>()).map(set);
        Ok(ColumnarValue::Array(Arc::new(shown.collect::<Result<StringArray>>()?)))
    }
}

/// `current_setting(name [, NULL where there is none])`.
#[derive(Debug)]
struct CurrentSetting {
    settings: HashMap<String, String>,
    signature: Signature,
}

impl CurrentSetting {
    fn new(facts: &SessionFacts) -> Self {
        let settings = facts.settings.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        let one_of = vec![
            TypeSignature::Exact(vec![DataType::Utf8]),
            TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean]),
        ];
        Self { settings, signature: Signature::one_of(one_of, Volatility::Stable) }
    }

    fn value(&self, name: &str, may_be_missing: bool) -> Result<Option<String>> {
        match self.settings.get(&name.to_lowercase()) {
            Some(value) => Ok(Some(value.clone())),
            None if may_be_missing => Ok(None),
            None => exec_err!("unrecognized configuration parameter \"{name}\""),
        }
    }
}

// One session has one of it.
impl PartialEq for CurrentSetting {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for CurrentSetting {}

impl Hash for CurrentSetting {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.settings.len().hash(state);
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &'static str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let may_be_missing = matches!(args.args.get(1), Some(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))));
        match args.args.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name)))) => {
                Ok(ColumnarValue::Scalar(ScalarValue::Utf8(self.value(name, may_be_missing)?)))
            }
            Some(ColumnarValue::Array(names)) => {
                let names = names.as_string::<i32>();
                let values = names
                    .iter()
                    .map(|name| name.map_or(Ok(None), |name| self.value(name, may_be_missing)))
                    .collect::<Result<StringArray>>()?;
                debug_assert_eq!(values.len(), names.len());
                Ok(ColumnarValue::Array(Arc::new(values)))
            }
            _ => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
        }
    }
}
