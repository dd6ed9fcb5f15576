-- Tables of the JasaWeb site, as Prisma writes them. Where the site has made them, they stay as they are;
-- the columns that we read are checked, so that a foreign shape is refused here and not in the middle of a request.

do $$
begin
  if to_regtype('public."Role"') is null then
    create type public."Role" as enum ('admin', 'client');
  end if;
  if to_regtype('public."ProjectType"') is null then
    create type public."ProjectType" as enum ('sekolah', 'berita', 'company');
  end if;
  if to_regtype('public."ProjectStatus"') is null then
    create type public."ProjectStatus" as enum ('pending_payment', 'in_progress', 'review', 'completed');
  end if;
  if to_regtype('public."InvoiceStatus"') is null then
    create type public."InvoiceStatus" as enum
      ('unpaid', 'paid', 'pending', 'failed', 'cancelled', 'expired', 'refunded', 'partial_refunded');
  end if;
end $$;

-- A table that is there keeps its own indexes and foreign keys, too: the site decides about them.
do $$
begin
  if to_regclass('public.users') is null then
    create table public.users (
      id text not null,
      email text not null,
      password text not null,
      name text not null,
      phone text,
      role public."Role" not null default 'client',
      created_at timestamp(3) not null default current_timestamp,
      constraint users_pkey primary key (id)
    );
    create unique index users_email_key on public.users (email);
    create index users_email_idx on public.users (email);
    create index users_role_idx on public.users (role);
    create index users_created_at_idx on public.users (created_at);
    create index users_role_created_at_idx on public.users (role, created_at);
  end if;

  if to_regclass('public.projects') is null then
    create table public.projects (
      id text not null,
      user_id text not null,
      name text not null,
      type public."ProjectType" not null,
      status public."ProjectStatus" not null default 'pending_payment',
      url text,
      credentials jsonb,
      created_at timestamp(3) not null default current_timestamp,
      updated_at timestamp(3) not null,
      constraint projects_pkey primary key (id),
      constraint projects_user_id_fkey foreign key (user_id) references public.users (id)
        on delete cascade on update cascade
    );
    create index projects_user_id_idx on public.projects (user_id);
    create index projects_status_idx on public.projects (status);
    create index projects_created_at_idx on public.projects (created_at);
    create index projects_user_id_status_idx on public.projects (user_id, status);
    create index projects_status_created_at_idx on public.projects (status, created_at);
  end if;

  if to_regclass('public.invoices') is null then
    create table public.invoices (
      id text not null,
      project_id text not null,
      amount numeric(12, 2) not null,
      status public."InvoiceStatus" not null default 'unpaid',
      midtrans_order_id text,
      qris_url text,
      paid_at timestamp(3),
      created_at timestamp(3) not null default current_timestamp,
      constraint invoices_pkey primary key (id),
      constraint invoices_project_id_fkey foreign key (project_id) references public.projects (id)
        on delete cascade on update cascade
    );
    create index invoices_project_id_idx on public.invoices (project_id);
    create index invoices_status_idx on public.invoices (status);
    create index invoices_created_at_idx on public.invoices (created_at);
    create index invoices_status_created_at_idx on public.invoices (status, created_at);
  end if;
end $$;
