# shellcheck shell=bash disable=SC2034 # for scripts/real-programs, which sources this
# The programs of scripts/real-programs, and what shows that they work.

# What a container is made of: packages of TREE_SUITE and all they need, unpacked into the cache.
tree_suite=${TREE_SUITE:-forky}
tree_packages='systemd postgresql-18 mount util-linux coreutils bash procps'

# NAME  COMMAND (needed)  PACKAGE (has it)  what is run, by a shell, in a directory of its own, its standard streams closed.
# With @ before the command it is run as the first process of a container (scripts/programs-contain) in the tree of packages
# above, of the kind that the first word of what is run says.
# shellcheck disable=SC2016 # expanded by that shell
programs='
sleep       sleep            coreutils        exec sleep 1000
pipeline    bash             bash             yes | while read -r l; do sleep 1; done | cat >out
nginx       nginx            nginx-light      mkdir -p logs; printf "user root; worker_processes 2; daemon off; pid $PWD/pid; error_log $PWD/err; events {} http { access_log off; server { listen unix:$PWD/sock; } }" >conf; exec nginx -p "$PWD" -c "$PWD/conf"
nginx-load  nginx            nginx-light      mkdir -p logs; printf "user root; worker_processes 2; daemon off; pid $PWD/pid; error_log $PWD/err; events {} http { access_log off; server { listen 127.0.0.1:10088; } }" >conf; for i in 1 2; do while :; do exec 3<>/dev/tcp/127.0.0.1/10088 && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3 >/dev/null && date +%N >alive; exec 3>&-; done 2>/dev/null & done; nginx -p "$PWD" -c "$PWD/conf"
redis       redis-server     redis-server     exec redis-server --port 0 --unixsocket "$PWD/sock" --save "" --dir "$PWD"
redis-tcp   redis-server     redis-server     exec redis-server --port 0 --bind 127.0.0.1 --port 16379 --dir "$PWD"
memcached   memcached        memcached        exec memcached -u root -s "$PWD/sock"
mariadb     mariadbd         mariadb-server   mariadb-install-db --user=root --datadir="$PWD/data" >log 2>&1; exec mariadbd --no-defaults --user=root --datadir="$PWD/data" --socket="$PWD/sock" --skip-networking --pid-file="$PWD/pid"
postgres    postgres         postgresql-15    b=$(dirname "$(readlink -f "$(command -v postgres)")"); chown postgres .; chmod 755 .. ../..; setpriv --reuid postgres --regid postgres --clear-groups "$b/initdb" -D "$PWD/data" >log 2>&1; exec unshare --ipc setpriv --reuid postgres --regid postgres --clear-groups "$b/postgres" -D "$PWD/data" -k "$PWD" -h ""
asyncio     python3          python3          exec python3 -c "import asyncio;h=lambda r,w:None;l=asyncio.new_event_loop();l.run_until_complete(asyncio.start_server(h,\"127.0.0.1\",0));l.run_forever()"
multiproc   python3          python3          exec python3 -c "import multiprocessing as m,time;p=m.Pool(3);q=m.Queue();l=m.Lock();time.sleep(1000)"
threads     python3          python3          exec python3 -c "import threading,time;[threading.Thread(target=time.sleep,args=(1000,)).start() for i in range(20)]"
node        node             nodejs           exec node -e "const f=require(\"fs\");require(\"http\").createServer((q,r)=>r.end()).listen(10083,\"127.0.0.1\");f.readFile(\"/etc/passwd\",()=>{});setInterval(()=>f.writeFileSync(\"alive\",\"\"+Date.now()),200)"
perl        perl             perl-base        exec perl -e "open F,\">f\"; flock F,2; sleep 1000 while 1"
ruby        ruby             ruby             exec ruby -rsocket -e "s=TCPServer.new(\"127.0.0.1\",0);Thread.new{s.accept};sleep 1000"
lua         lua5.4           lua5.4           exec lua5.4 -e "local p=io.popen(\"sleep 1000\");p:read()"
php-fpm     php-fpm8.2       php8.2-fpm       printf "[global]\nerror_log=$PWD/err\ndaemonize=no\n[www]\nuser=root\nlisten=$PWD/sock\npm=static\npm.max_children=2\n" >conf; exec php-fpm8.2 -R -F -y "$PWD/conf"
php-jit     php-fpm8.2       php8.2-fpm       printf "[global]\nerror_log=$PWD/err\ndaemonize=no\n[www]\nuser=root\nlisten=$PWD/sock\npm=static\npm.max_children=2\n" >conf; exec php-fpm8.2 -R -F -y "$PWD/conf" -d opcache.enable=1 -d opcache.jit=tracing -d opcache.jit_buffer_size=16M
tmux        tmux             tmux             on_terminal tmux -L $TMUX_NAME new
tmux-server tmux             tmux             exec tmux -L $TMUX_NAME-d -D
screen      screen           screen           SCREENDIR="$PWD/s"; mkdir -m 700 s; export SCREENDIR; exec screen -DmS preflight
sqlite3     sqlite3          sqlite3          (echo "create table t(a); begin immediate; insert into t values(1);"; exec sleep 1000) | sqlite3 db
java        java             openjdk-17-jdk-headless   echo "public class M { public static void main(String[] a) throws Exception { new java.net.ServerSocket(0); for (;;) { Thread.sleep(200); java.nio.file.Files.writeString(java.nio.file.Path.of(\"alive\"), \"\" + System.nanoTime()); } } }" >M.java; exec java -Xmx64m M.java
qemu        qemu-system-x86_64 qemu-system-x86  exec qemu-system-x86_64 -S -display none -m 64 -monitor none -serial none -nodefaults
dbus        dbus-daemon      dbus             exec dbus-daemon --session --nofork --address="unix:path=$PWD/bus"
sshd        sshd             openssh-server   mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f key; exec "$(command -v sshd)" -D -f /dev/null -h "$PWD/key" -p 10022 -o ListenAddress=127.0.0.1 -o PidFile=none
cron        cron             cron             exec cron -f
httpd       busybox          busybox-static   exec busybox httpd -f -p 127.0.0.1:10080
vim         vim              vim              on_terminal vim -n file
pager       man              man-db           on_terminal man man
less        less             less             on_terminal less /etc/passwd
strace      strace           strace           exec strace -o out sleep 1000
gdb         gdb              gdb              exec gdb -q -ex "break pause" -ex run -ex "shell sleep 1000" --args sleep 1000
socat       socat            socat            exec socat UNIX-LISTEN:sock,fork PIPE
haproxy     haproxy          haproxy          printf "global\n stats socket $PWD/sock\ndefaults\n timeout client 5s\n timeout server 5s\n timeout connect 5s\nfrontend f\n bind $PWD/front\n mode tcp\n" >conf; exec haproxy -db -f conf
tail        tail             coreutils        echo x >f; exec tail -F f
find-xargs  xargs            findutils        echo 1000 | xargs sleep
unshared    unshare          util-linux       exec unshare -mui sleep 1000
unshared-f  unshare          util-linux       exec unshare -mui -f sleep 1000
apache      apache2          apache2          printf "ServerRoot $PWD\nServerName x\nPidFile $PWD/pid\nMutex file:$PWD\nListen 127.0.0.1:10081\nErrorLog $PWD/err\nLoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\nLoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n" >conf; exec apache2 -f "$PWD/conf" -D FOREGROUND
go          go               golang-go        printf "package main\nimport (\"net\";\"time\")\nfunc main() { net.Listen(\"tcp\", \"127.0.0.1:0\"); time.Sleep(1e12) }\n" >m.go; export HOME=$PWD GO111MODULE=off; go build -o m m.go && exec ./m
erlang      erl              erlang-base      export HOME=$PWD; exec erl -noinput -eval "gen_tcp:listen(0, []), timer:sleep(1000000)."
chromium    chromium         chromium         export HOME=$PWD; exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$PWD/p" --remote-debugging-port=0 about:blank
xvfb        Xvfb             xvfb             exec Xvfb :97 -screen 0 320x200x8 -nolisten tcp
x-client    xterm            xterm            Xvfb :98 -screen 0 320x200x8 -nolisten tcp & sleep 2; DISPLAY=:98 exec xterm -e sleep 1000
dnsmasq     dnsmasq          dnsmasq-base     exec dnsmasq -k -u root -g root -p 10053 -a 127.0.0.1 -z -A /a.x/10.1.2.3 -C /dev/null -x "$PWD/pid"
ssh-session ssh              openssh-client   mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f key; cp key.pub auth; $(command -v sshd) -f /dev/null -h "$PWD/key" -p 10023 -o ListenAddress=127.0.0.1 -o PidFile=none -o StrictModes=no -o AuthorizedKeysFile="$PWD/auth" -D & sleep 2; exec ssh -p 10023 -i key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null 127.0.0.1 sleep 1000
nspawn      systemd-nspawn   systemd-container mkdir -p r/bin r/etc r/usr; touch r/etc/os-release; cp "$(command -v busybox)" r/bin/sh; ln -s sh r/bin/sleep; exec systemd-nspawn -q --register=no --keep-unit --console=pipe -D r /bin/sleep 1000
unbound     unbound          unbound          printf "server:\n interface: 127.0.0.1@10054\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n directory: $PWD\n pidfile: $PWD/pid\n use-syslog: no\n num-threads: 2\n local-zone: \"x.\" static\n local-data: \"a.x. A 10.1.2.3\"\nremote-control:\n control-enable: no\n" >conf; exec unbound -d -c "$PWD/conf"
bind9       named            bind9            printf "options { directory \"$PWD\"; listen-on port 10055 { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; pid-file \"$PWD/pid\"; session-keyfile \"$PWD/key\"; }; controls { }; zone \"x\" { type primary; file \"zone\"; };" >conf; printf "@ 60 IN SOA a.x. a.x. 1 60 60 60 60\n@ 60 IN NS a.x.\na 60 IN A 10.1.2.3\n" >zone; exec named -f -c "$PWD/conf"
knot        knotd            knot             printf "server:\n  rundir: $PWD\n  listen: 127.0.0.1@10056\n  user: root\ndatabase:\n  storage: $PWD\nzone:\n  - domain: x\n    file: $PWD/zone\n" >conf; printf "@ 60 IN SOA a.x. a.x. 1 60 60 60 60\n@ 60 IN NS a.x.\na 60 IN A 10.1.2.3\n" >zone; exec knotd -c "$PWD/conf"
chrony      chronyd          chrony           printf "local stratum 10\nport 10123\ncmdport 0\nbindcmdaddress $PWD/s/sock\npidfile $PWD/pid\nallow 127.0.0.1\nbindaddress 127.0.0.1\nuser root\n" >conf; exec chronyd -d -x -u root -f "$PWD/conf"
vsftpd      vsftpd           vsftpd           mkdir e; printf "listen=YES\nlisten_port=10021\nlisten_address=127.0.0.1\nbackground=NO\nsecure_chroot_dir=$PWD/e\nanonymous_enable=YES\n" >conf; exec vsftpd "$PWD/conf"
mosquitto   mosquitto        mosquitto        printf "listener 11883 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\npersistence_location $PWD/\n" >conf; exec mosquitto -c "$PWD/conf"
samba       smbd             samba            mkdir d; printf "[global]\nsmb ports = 10445\ninterfaces = lo\nbind interfaces only = yes\nncalrpc dir = $PWD/d/n\nstate directory = $PWD/d\ncache directory = $PWD/d\nlock directory = $PWD/d\npid directory = $PWD/d\nprivate dir = $PWD/d\nlog file = $PWD/log\n" >conf; exec smbd -F --no-process-group -s "$PWD/conf"
lighttpd    lighttpd         lighttpd         printf "server.document-root=\"$PWD\"\nserver.port=10084\nserver.bind=\"127.0.0.1\"\n" >conf; exec lighttpd -D -f conf
tinyproxy   tinyproxy        tinyproxy        printf "Port 10085\nListen 127.0.0.1\nPidFile \"$PWD/pid\"\nLogFile \"$PWD/log\"\n" >conf; exec tinyproxy -d -c conf
beanstalkd  beanstalkd       beanstalkd       mkdir b; exec beanstalkd -l 127.0.0.1 -p 11301 -b "$PWD/b"
nats        nats-server      nats-server      exec nats-server -a 127.0.0.1 -p 14222 -js -sd "$PWD/js"
prometheus  prometheus       prometheus       echo "global: {}" >conf; exec prometheus --config.file=conf --storage.tsdb.path="$PWD/d" --web.listen-address=127.0.0.1:19090
caddy       caddy            caddy            export HOME=$PWD; exec caddy file-server --listen 127.0.0.1:10086 --root "$PWD"
etcd        etcd             etcd-server      exec etcd --data-dir "$PWD/d" --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 --initial-cluster default=http://127.0.0.1:12380
influxdb    influxd          influxdb         printf "bind-address = \"127.0.0.1:18088\"\n[meta]\n dir = \"$PWD/m\"\n[data]\n dir = \"$PWD/d\"\n wal-dir = \"$PWD/w\"\n[http]\n bind-address = \"127.0.0.1:18086\"\n" >conf; exec influxd -config conf
squid       squid            squid            printf "http_port 127.0.0.1:13128\ncache_effective_user root\ncache_effective_group root\npid_filename $PWD/pid\naccess_log none\ncache_log $PWD/log\ncoredump_dir $PWD\npinger_enable off\nhttp_access allow all\n" >conf; exec squid -N -f "$PWD/conf"
varnish     varnishd         varnish          exec varnishd -F -a 127.0.0.1:10087 -b 127.0.0.1:9 -n "$PWD/v" -j none
stunnel     stunnel4         stunnel4         openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout k.pem -out c.pem -days 9 2>/dev/null; printf "foreground = yes\npid =\ncert = $PWD/c.pem\nkey = $PWD/k.pem\n[a]\naccept = 127.0.0.1:10443\nconnect = 127.0.0.1:9\n" >conf; exec stunnel4 "$PWD/conf"
gunicorn    gunicorn         gunicorn         printf "def app(e, s):\n s(\"200 OK\", [])\n return [b\"hi\"]\n" >m.py; exec gunicorn -b 127.0.0.1:18000 -w 2 m:app
uwsgi       uwsgi            uwsgi-plugin-python3  printf "def application(e, s):\n s(\"200 OK\", [])\n return [b\"hi\"]\n" >m.py; exec uwsgi --plugin python3 --http-socket 127.0.0.1:18001 --wsgi-file m.py --processes 2 --master
puma        puma             puma             printf "run ->(e){[200,{},[%%q(hi)]]}\n" >config.ru; exec puma -b tcp://127.0.0.1:18002 -t 1:2 config.ru
rsync       rsync            rsync            echo "[m]" >conf; exec rsync --daemon --no-detach --address=127.0.0.1 --port=10873 --config="$PWD/conf"
tor         tor              tor              printf "DisableNetwork 1\nDataDirectory $PWD/d\nControlSocket $PWD/sock\nControlSocketsGroupWritable 0\n" >conf; mkdir -m 700 d; chmod 700 .; exec tor --defaults-torrc /dev/null -f "$PWD/conf"
slapd       slapd            slapd            mkdir d; printf "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile $PWD/pid\ndatabase mdb\nsuffix dc=x\ndirectory $PWD/d\n" >conf; exec slapd -d 0 -f conf -h ldap://127.0.0.1:10389
rabbitmq    rabbitmq-server  rabbitmq-server  export HOME=$PWD RABBITMQ_MNESIA_BASE="$PWD/m" RABBITMQ_LOG_BASE="$PWD/l" RABBITMQ_NODENAME=preflight@localhost RABBITMQ_NODE_PORT=15672 RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_ENABLED_PLUGINS_FILE="$PWD/p" RABBITMQ_CONF_ENV_FILE=/dev/null; echo "[]." >p; exec /usr/lib/rabbitmq/bin/rabbitmq-server
mc          mc               mc               export HOME=$PWD; on_terminal mc -u
nano        nano             nano             export HOME=$PWD; on_terminal nano file
pg          @postgres        postgresql-18    user pg_start io_method=worker
pg-uring    @postgres        postgresql-18    user pg_start io_method=io_uring
systemd     @systemd         systemd          system systemd_start
systemd-psi @systemd         systemd          system systemd_start pressure
deleted     python3          python3          exec python3 -c "import os,time;f=open(\"f\",\"w+\");f.write(\"x\"*3000000);f.flush();os.unlink(\"f\");time.sleep(1000)"
'

# NAME  what shows that it works, by a shell in its directory, with the functions below. Of the others: that all processes are
# there, and none is stopped.
# shellcheck disable=SC2016 # expanded by that shell
probes='
nginx       unix sock "GET / HTTP/1.0" HTTP/
nginx-load  changes alive
redis       unix sock PING +PONG
redis-tcp   tcp 16379 PING +PONG
memcached   unix sock version VERSION
pg          pg_answers
pg-uring    pg_answers
systemd     changes "$root/var/ticks"
systemd-psi changes "$root/var/ticks"
unbound     dns 10054
bind9       dns 10055
dnsmasq     dns 10053
knot        dns 10056
chrony      udp 10123 "x:e3$(printf %094d 0)" x:24
vsftpd      tcp 10021 "USER x" 220
mosquitto   tcp 11883 x:100d00044d5154540402003c000161 x:20020000
samba       tcp 10445 x:0000002eff534d4272000000001853c80000000000000000000000000000fffe00000000000b0002534d4220322e30303200 x:fe534d42
lighttpd    tcp 10084 "GET / HTTP/1.0" HTTP/
tinyproxy   tcp 10085 "GET http://tinyproxy.stats/ HTTP/1.0" HTTP/
beanstalkd  tcp 11301 stats OK
nats        tcp 14222 PING INFO
prometheus  tcp 19090 "GET /-/ready HTTP/1.0" HTTP/
caddy       tcp 10086 "GET / HTTP/1.0" HTTP/
etcd        tcp 12379 "GET /health HTTP/1.0" health
influxdb    tcp 18086 "GET /ping HTTP/1.0" HTTP/
squid       tcp 13128 "GET / HTTP/1.0" HTTP/
varnish     tcp 10087 "GET / HTTP/1.0" HTTP/
stunnel     timeout 3 openssl s_client -connect 127.0.0.1:10443 </dev/null 2>/dev/null | grep -q CERTIFICATE
gunicorn    tcp 18000 "GET / HTTP/1.0" hi
uwsgi       tcp 18001 "GET / HTTP/1.0" hi
puma        tcp 18002 "GET / HTTP/1.0" hi
rsync       tcp 10873 @RSYNCD @RSYNCD
tor         unix sock AUTHENTICATE 250
slapd       tcp 10389 x:300c020101600702010304008000 x:0201016107
rabbitmq    tcp 15672 "AMQP0000" AMQP
postgres    setpriv --reuid postgres --regid postgres --clear-groups psql -h "$PWD" -Atc "select 6 * 7" postgres | grep -q 42
mariadb     mariadb --no-defaults -S sock -Ne "select 6 * 7" | grep -q 42
node        changes alive && tcp 10083 "GET / HTTP/1.0" HTTP/
java        changes alive
httpd       tcp 10080 "GET / HTTP/1.0" HTTP/
apache      tcp 10081 "GET / HTTP/1.0" HTTP/
sshd        tcp 10022 SSH-2.0-test SSH-
haproxy     unix sock "show info" Name
socat       unix sock echo echo
'
# What comes back wrong, and is said to: such a program need not work after its restore, and may not.
# (`interrupted` is CRIU's warning, not a rule.)
losses='
tail        interrupted
haproxy     lost-unix-renamed
systemd-psi lost-pressure-trigger
'

# tcp PORT TEXT PATTERN, udp PORT TEXT PATTERN, unix SOCKET TEXT PATTERN: a line sent, and what comes back within three seconds.
# Both are bytes in hexadecimal if x: is before them.
tcp() { talk tcp "127.0.0.1:$1" "${@:2}"; }
udp() { talk udp "127.0.0.1:$1" "${@:2}"; }
unix() { talk unix "$@"; }
talk() { timeout 3 perl -e "$talk" "$@"; }
# changes FILE: within ten seconds.
changes() {
    local before
    before=$(cat "$1")
    for _ in {1..20}; do
        sleep 0.5
        [ "$before" = "$(cat "$1")" ] || return 0
    done
    return 1
}
# The address of a.x.
dns() { udp "$1" x:123401000001000000000000016101780000010001 x:0a010203; }
# shellcheck disable=SC2016 # Perl's
talk='use IO::Socket::INET; use IO::Socket::UNIX; my ($kind, $to, $text, $pattern) = @ARGV;
my $s = $kind eq "unix" ? IO::Socket::UNIX->new($to) : IO::Socket::INET->new(PeerAddr => $to, Proto => $kind);
exit 1 if !$s;
sub given { my ($t, $end) = @_; return $t =~ s/^x:// ? pack("H*", $t) : $t . $end }
syswrite $s, given($text, "\r\n\r\n");
$pattern = given($pattern, "");
my $all;
while (sysread $s, my $b, 4096) { $all .= $b; exit 0 if index($all, $pattern) >= 0 }
exit 1'

# On a terminal of its own. script(1) is no such program: its poll(2) comes back from a restore with EINTR (compel_get_task_regs() in
# compel/arch/x86/src/lib/infect.c makes that of ERESTART_RESTARTBLOCK), upon which it ends the other (ul_pty_proxy_master(),
# util-linux 2.38), at times before CRIU has let go of it, whose restore fails then.
on_terminal() {
    export TERM=xterm
    exec python3 -c 'import pty, sys; pty.spawn(sys.argv[1:])' "$@"
}

# In a container: $root is the mount that is its root, as the host sees it.
root=
pg_bin=/usr/lib/postgresql/18/bin
pg_user='setpriv --reuid 101 --regid 104 --clear-groups'
pg_start() {
    echo "install -d -o 101 -g 104 /pg && $pg_user $pg_bin/initdb -D /pg/data >/pg.log 2>&1 &&
        exec $pg_user $pg_bin/postgres -D /pg/data -k /pg -h '' -c $1"
}
pg_answers() {
    # shellcheck disable=SC2086 # words
    chroot "$root" $pg_user $pg_bin/psql -h /pg -Atc "select 6 * 7" postgres | grep -q 42
}
# One service, and a timer that systemd looks after every second. A watch of the memory pressure is a trigger, which a
# restore does not set again, and a systemd that has one reads the same event for ever.
systemd_start() {
    # shellcheck disable=SC2016 # expanded by that shell
    local units='
for unit in work.service tick.timer tick.service ours.target; do
    printf "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n" >/etc/systemd/system/$unit
done
cd /etc/systemd/system
printf "[Service]\nExecStart=sleep 100000\nRestart=always\n" >>work.service
printf "[Timer]\nOnActiveSec=1\nOnUnitActiveSec=1\nAccuracySec=100ms\n" >>tick.timer
printf "[Service]\nType=oneshot\nExecStart=sh -c \"echo x >>/var/ticks\"\n" >>tick.service
printf "Wants=work.service tick.timer\n" >>ours.target
'
    [ "${1:-}" = pressure ] || units+='export MEMORY_PRESSURE_WATCH=/dev/null CPU_PRESSURE_WATCH=/dev/null IO_PRESSURE_WATCH=/dev/null
'
    echo "$units exec env container=preflight /usr/lib/systemd/systemd --system --log-target=null --show-status=0 --unit=ours.target"
}
