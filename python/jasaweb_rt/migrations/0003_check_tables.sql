-- Tables that were there before us are used as they are, so they must be what we take them for.

do $$
declare
  wrong text;
begin
  -- Columns: type and nullability. Further columns are the site's business, as long as our rows need not fill them.
  with expected (name, attribute, type, required) as (values
    ('users', 'id', 'text', true),
    ('users', 'email', 'text', true),
    ('users', 'password', 'text', true),
    ('users', 'name', 'text', true),
    ('users', 'role', 'public."Role"', true),
    ('projects', 'id', 'text', true),
    ('projects', 'user_id', 'text', true),
    ('projects', 'name', 'text', true),
    ('projects', 'type', 'public."ProjectType"', true),
    ('projects', 'status', 'public."ProjectStatus"', true),
    ('projects', 'url', 'text', false),
    ('projects', 'created_at', 'timestamp(3) without time zone', true),
    ('projects', 'updated_at', 'timestamp(3) without time zone', true),
    ('invoices', 'id', 'text', true),
    ('invoices', 'project_id', 'text', true),
    ('invoices', 'amount', 'numeric(12,2)', true),
    ('invoices', 'status', 'public."InvoiceStatus"', true),
    ('invoices', 'midtrans_order_id', 'text', false),
    ('invoices', 'qris_url', 'text', false),
    ('invoices', 'paid_at', 'timestamp(3) without time zone', false),
    ('invoices', 'created_at', 'timestamp(3) without time zone', true),
    ('websocket_connections', 'id', 'text', true),
    ('websocket_connections', 'user_id', 'text', true),
    ('websocket_connections', 'connection_id', 'text', true),
    ('websocket_connections', 'client_ip', 'text', false),
    ('websocket_connections', 'user_agent', 'text', false),
    ('websocket_connections', 'connected_at', 'timestamp(3) without time zone', true),
    ('websocket_connections', 'last_activity', 'timestamp(3) without time zone', true),
    ('websocket_connections', 'status', 'public."ConnectionStatus"', true),
    ('websocket_messages', 'id', 'text', true),
    ('websocket_messages', 'connection_id', 'text', true),
    ('websocket_messages', 'message_type', 'text', true),
    ('websocket_messages', 'payload', 'jsonb', true),
    ('websocket_messages', 'sent_at', 'timestamp(3) without time zone', true),
    ('websocket_messages', 'delivered', 'boolean', true),
    ('real_time_notifications', 'id', 'text', true),
    ('real_time_notifications', 'user_id', 'text', true),
    ('real_time_notifications', 'type', 'public."NotificationType"', true),
    ('real_time_notifications', 'title', 'text', true),
    ('real_time_notifications', 'message', 'text', true),
    ('real_time_notifications', 'data', 'jsonb', false),
    ('real_time_notifications', 'read_at', 'timestamp(3) without time zone', false),
    ('real_time_notifications', 'created_at', 'timestamp(3) without time zone', true)
  ), actual as (
    select c.relname::text as name, c.relkind, a.attname::text as attribute,
           format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as required,
           a.atthasdef or a.attidentity <> '' as filled
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relname in (select e.name from expected e)
  ), problems as (
    select 0 as rank, a.name, '' as attribute, format('public.%I is not an ordinary table', a.name) as problem
    from actual a where a.relkind <> 'r' group by a.name
    union all
    select 1, name, attribute, case
        when a.type is null then format('column %I.%I is missing (expected: %s)', name, attribute, e.type)
        when a.type <> e.type then format('column %I.%I is %s where %s is expected', name, attribute, a.type, e.type)
        when e.required then format('column %I.%I must be NOT NULL', name, attribute)
        else format('column %I.%I must be nullable', name, attribute)
      end
    from expected e left join actual a using (name, attribute)
    where a.type is distinct from e.type or a.required <> e.required
    union all
    select 2, a.name, a.attribute,
           format('column %I.%I is unknown, NOT NULL and without a default', a.name, a.attribute)
    from actual a left join expected e using (name, attribute)
    where e.type is null and a.required and not a.filled
      and a.name in ('websocket_connections', 'websocket_messages', 'real_time_notifications')
    union all
    select 3, t.name, '', format('table %I needs the primary key (id)', t.name)
    from (select distinct e.name from expected e) t
    where not exists (
      select from pg_constraint k
      join pg_attribute a on a.attrelid = k.conrelid and k.conkey = array[a.attnum] and a.attname = 'id'
      where k.contype = 'p' and k.conrelid = to_regclass(format('public.%I', t.name))
    )
  )
  select string_agg(problem, '; ' order by rank, name, attribute) into wrong from problems;
  if wrong is not null then
    raise exception '%', wrong using errcode = 'object_not_in_prerequisite_state',
      hint = 'Give these tables the shape of the implementation guide (prisma db push), then migrate again.';
  end if;

  -- Labels: what we write must be there; others may stand beside it.
  with expected (name, label) as (
    select 'Role', unnest(array['admin', 'client'])
    union all select 'ProjectStatus', unnest(array['pending_payment', 'in_progress', 'review', 'completed'])
    union all select 'InvoiceStatus',
      unnest(array['unpaid', 'paid', 'pending', 'failed', 'cancelled', 'expired', 'refunded', 'partial_refunded'])
    union all select 'ConnectionStatus', unnest(array['active', 'disconnected', 'error', 'timeout'])
    union all select 'NotificationType',
      unnest(array['project_update', 'payment_update', 'system_announcement', 'admin_alert', 'user_message'])
  )
  select string_agg(format('enum %I lacks %L', e.name, e.label), '; ' order by e.name, e.label) into wrong
  from expected e
  where not exists (
    select from pg_enum l where l.enumtypid = to_regtype(format('public.%I', e.name)) and l.enumlabel = e.label
  );
  if wrong is not null then
    raise exception '%', wrong using errcode = 'object_not_in_prerequisite_state',
      hint = 'Give these types the labels of the implementation guide (prisma db push), then migrate again.';
  end if;
end $$;

create unique index if not exists websocket_connections_connection_id_key
  on public.websocket_connections (connection_id);
create index if not exists websocket_connections_user_id_idx on public.websocket_connections (user_id);
create index if not exists websocket_connections_connection_id_idx on public.websocket_connections (connection_id);
create index if not exists websocket_connections_status_idx on public.websocket_connections (status);
create index if not exists websocket_connections_last_activity_idx on public.websocket_connections (last_activity);
create index if not exists websocket_connections_client_ip_idx on public.websocket_connections (client_ip);
create index if not exists websocket_messages_connection_id_idx on public.websocket_messages (connection_id);
create index if not exists websocket_messages_message_type_idx on public.websocket_messages (message_type);
create index if not exists websocket_messages_sent_at_idx on public.websocket_messages (sent_at);
create index if not exists websocket_messages_delivered_idx on public.websocket_messages (delivered);
create index if not exists real_time_notifications_user_id_idx on public.real_time_notifications (user_id);
create index if not exists real_time_notifications_type_idx on public.real_time_notifications (type);
create index if not exists real_time_notifications_created_at_idx on public.real_time_notifications (created_at);
create index if not exists real_time_notifications_user_id_read_at_idx
  on public.real_time_notifications (user_id, read_at);

do $$
begin
  if not exists (select from pg_constraint where conname = 'websocket_connections_user_id_fkey'
                 and conrelid = to_regclass('public.websocket_connections')) then
    alter table public.websocket_connections add constraint websocket_connections_user_id_fkey
      foreign key (user_id) references public.users (id) on delete cascade on update cascade;
  end if;
  if not exists (select from pg_constraint where conname = 'websocket_messages_connection_id_fkey'
                 and conrelid = to_regclass('public.websocket_messages')) then
    alter table public.websocket_messages add constraint websocket_messages_connection_id_fkey
      foreign key (connection_id) references public.websocket_connections (id) on delete cascade on update cascade;
  end if;
end $$;
