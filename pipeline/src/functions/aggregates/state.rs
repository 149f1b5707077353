//! What an aggregate of ours is made of: its types ([`Function`]), and the state of many groups at once ([`Many`]). The rest, that DataFusion wants to
//! see around them, is the same for all.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// An aggregate function: names and types.
pub(super) trait Function: Debug + Eq + Hash + Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// What the arguments are cast to; the error says how the function is called.
    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>>;

    fn value_type(&self, types: &[DataType]) -> DataType;

    /// The columns of a state.
    fn state_types(&self, types: &[DataType]) -> Vec<DataType>;

    /// The state of no groups yet. `constant` evaluates an argument that is the same for all rows.
    fn many(&self, types: &[DataType], constant: &dyn Fn(usize) -> Result<ScalarValue>) -> Result<Box<dyn Many>>;

    /// The same where the call says `WITHIN GROUP (ORDER BY ...)`, downwards or upwards.
    fn many_in_order(
        &self,
        types: &[DataType],
        constant: &dyn Fn(usize) -> Result<ScalarValue>,
        _is_descending: bool,
    ) -> Result<Box<dyn Many>> {
        self.many(types, constant)
    }

    /// True where its values come from `WITHIN GROUP (ORDER BY ...)`; they are the first argument then.
    fn is_ordered_set(&self) -> bool {
        false
    }
}

/// The state of all groups of one aggregate. A merge of a state into nothing is that state, to the bit; so is a state that is written and read back.
pub(super) trait Many: Send + Sync + Debug {
    /// As many groups as this, the new ones empty.
    fn resize(&mut self, groups: usize);

    /// Takes the rows that are `kept`.
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], kept: &dyn Fn(usize) -> bool) -> Result<()>;

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> Result<()>;

    /// The states of the groups chosen, which are no more.
    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>>;

    /// The values of the groups chosen, which are no more.
    fn value(&mut self, emit_to: EmitTo) -> Result<ArrayRef>;

    fn size_bytes(&self) -> usize;

    /// One of the same kind with no groups.
    fn fresh(&self) -> Box<dyn Many>;
}

/// A [`Function`] as DataFusion has them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Udaf<F> {
    function: F,
    signature: Signature,
}

impl<F: Function> Udaf<F> {
    pub(super) fn new(function: F) -> Self {
        Self { function, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn many(&self, args: &AccumulatorArgs<'_>) -> Result<Box<dyn Many>> {
        let types: Vec<DataType> = args.expr_fields.iter().map(|f| f.data_type().clone()).collect();
        let constant = |at: usize| {
            let options = RecordBatchOptions::new().with_row_count(Some(1));
            let nothing = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
            match args.exprs.get(at).map(|expr| expr.evaluate(&nothing)) {
                Some(Ok(ColumnarValue::Scalar(value))) => Ok(value),
                _ => plan_err!("argument {} of {} must be a constant", at + 1, self.function.name()),
            }
        };
        let is_descending = args.order_bys.first().is_some_and(|by| by.options.descending);
        self.function.many_in_order(&types, &constant, is_descending)
    }
}

impl<F: Function> AggregateUDFImpl for Udaf<F> {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.function.value_type(arg_types))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let types: Vec<DataType> = args.input_fields.iter().map(|f| f.data_type().clone()).collect();
        let types = self.function.state_types(&types).into_iter().enumerate();
        Ok(types.map(|(at, t)| Arc::new(Field::new(format!("{}[{at}]", args.name), t, true))).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let mut many = self.many(&args)?;
        many.resize(1);
        Ok(Box::new(One(many)))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(All(self.many(&args)?)))
    }

    fn supports_within_group_clause(&self) -> bool {
        self.function.is_ordered_set()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The groups of a GROUP BY.
#[derive(Debug)]
struct All(Box<dyn Many>);

impl GroupsAccumulator for All {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.0.resize(total);
        self.0.update(values, groups, &|row| filter.is_none_or(|f| f.is_valid(row) && f.value(row)))
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.0.value(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.0.resize(total);
        self.0.merge(values, groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |v| v.len());
        let mut each = Self(self.0.fresh());
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.0.size_bytes()
    }
}

/// A query's only group.
#[derive(Debug)]
struct One(Box<dyn Many>);

impl One {
    /// The state, which stays: a window function asks again and again.
    fn keep(&mut self) -> Result<Vec<ArrayRef>> {
        let state = self.0.state(EmitTo::All)?;
        self.0.resize(1);
        self.0.merge(&state, &[0])?;
        Ok(state)
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |v| v.len());
        self.0.update(values, &vec![0; rows], &|_| true)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.keep()?;
        let value = ScalarValue::try_from_array(&self.0.value(EmitTo::All)?, 0)?;
        self.0.resize(1);
        self.0.merge(&state, &[0])?;
        Ok(value)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.keep()?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |s| s.len());
        self.0.merge(states, &vec![0; rows])
    }

    fn size(&self) -> usize {
        self.0.size_bytes()
    }
}
