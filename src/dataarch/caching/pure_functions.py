"""Functions of PostgreSQL whose result depends on their arguments alone, so that it may be remembered.

A function that is not here may read a table that nobody sees in the statement, or a clock, or dice. A test asks the
server that none of these is volatile.
"""

from __future__ import annotations

__all__ = ["PURE_FUNCTIONS"]

AGGREGATES = """
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every json_agg
json_object_agg jsonb_agg jsonb_object_agg max min mode percentile_cont percentile_disc range_agg range_intersect_agg
regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop
stddev_samp string_agg sum var_pop var_samp variance
"""

WINDOWS = """
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
"""

NUMBERS = """
abs cbrt ceil ceiling degrees div erf exp factorial floor gcd lcm ln log log10 min_scale mod numeric_inc pi power
radians round scale sign sqrt trim_scale trunc width_bucket acos asin atan atan2 cos cot sin tan
"""

TEXTS = """
ascii bit_length btrim char_length character_length chr concat concat_ws convert_from convert_to decode encode format
initcap left length lower lpad ltrim md5 normalize octet_length overlay position quote_ident quote_literal
quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim sha224 sha256 sha384 sha512 split_part
starts_with string_to_array string_to_table strpos substr substring to_hex translate unistr upper
"""

TIMES = """
date_bin date_part date_trunc extract isfinite justify_days justify_hours justify_interval make_date make_interval
make_time make_timestamp make_timestamptz timezone to_char to_date to_number to_timestamp
"""

JSON = """
json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each
json_each_text json_extract_path json_extract_path_text json_object json_object_keys json_strip_nulls json_typeof
jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_contains
jsonb_each jsonb_each_text jsonb_exists jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object
jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first
jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_typeof row_to_json to_json to_jsonb array_to_json
"""

ARRAYS = """
array_append array_cat array_dims array_length array_lower array_ndims array_position array_positions array_prepend
array_remove array_replace array_to_string array_upper cardinality generate_series generate_subscripts num_nonnulls
num_nulls trim_array unnest isempty lower_inc lower_inf range_merge upper_inc upper_inf
"""

SYNTAX = """
coalesce greatest least nullif cube grouping grouping_sets rollup row trim aggregate_strings
"""
"""What the parser or SQLAlchemy knows, and no catalog."""

PURE_FUNCTIONS = frozenset(
    name for names in (AGGREGATES, WINDOWS, NUMBERS, TEXTS, TIMES, JSON, ARRAYS, SYNTAX) for name in names.split()
)
