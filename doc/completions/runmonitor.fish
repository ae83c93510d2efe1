complete -c runmonitor -l include -d 'Show only processes whose command line this regular expression matches, anywhere in it. May be given several times' -r
complete -c runmonitor -l exclude -d 'Leave out processes whose command line this regular expression matches, anywhere in it, even if they are included. May be given several times' -r
complete -c runmonitor -l source -d 'Where bytes are counted' -r -f -a "ebpf\t'IP bytes of every socket, counted by eBPF programs'
conntrack\t'IP bytes of every tracked flow, from connection tracking'
sockets\t'Payload bytes of TCP, from the sockets themselves'
auto\t'eBPF if it is allowed, else conntrack, else sockets'"
complete -c runmonitor -l netns -d 'Network namespaces to watch' -r -f -a "all\t'Those of all processes, including containers'
own\t'Only that of the program itself'"
complete -c runmonitor -l interval -d 'Seconds between two refreshes; fractions are allowed' -r
complete -c runmonitor -l count -d 'Exit after N refreshes, as after Ctrl-C' -r
complete -c runmonitor -l format -d 'Format of the refreshes' -r -f -a "text\t'Lines of text for people'
json\t'JSON Lines: one line with all data for each refresh'
csv\t'CSV: a header, and a record for each row of each refresh'"
complete -c runmonitor -l units -d 'Units of bytes in text, instead of plain numbers' -r -f -a "bin-bytes\t'B, KiB, MiB: steps of 1024'
bin-bits\t'bit, Kibit, Mibit: steps of 1024'
si-bytes\t'B, kB, MB: steps of 1000'
si-bits\t'bit, kbit, Mbit: steps of 1000'"
complete -c runmonitor -l by -d 'Group rows by this, or by several together: --by unit,interface' -r -f -a "process\t'Each process by itself, with its pid'
command\t'The command line, or the application'
program\t'The name of the program'
exe\t'The path of the executable file'
user\t'The effective user'
unit\t'The systemd unit'
container\t'The container'
pod\t'The Kubernetes pod'
remote\t'The address of the remote host'
remote-port\t'The protocol and the port of the remote host'
interface\t'The interface of this host'
protocol\t'The protocol'"
complete -c runmonitor -s p -l pid -d 'Show only the process with this pid; may be repeated' -r
complete -c runmonitor -l user -d 'Show only processes of this user, by name or number; may be repeated' -r
complete -c runmonitor -l columns -d 'Columns of the screen, in this order; those that have no room are left out' -r -f -a "in\t'Received bytes per second'
out\t'Sent bytes per second'
share\t'The part of all bytes, in and out together, as a bar'
graph\t'The rate in the last 12 refreshes'
total-in\t'All received bytes'
total-out\t'All sent bytes'
pid\t'The pid, and how many more processes'
user\t'The effective user'
unit\t'The pod, container or systemd unit'
program\t'The name of the program'
ends\t'The number of remote ends'
name\t'The command line, application or pipe, in the rest of the line'"
complete -c runmonitor -l bandwidth -d 'Show bytes per second instead of accumulated bytes'
complete -c runmonitor -l no-lookback -d 'Don\'t count bytes that were received and sent before the start'
complete -c runmonitor -l ignore-local -d 'Leave out traffic that never leaves this host: both ends are loopback addresses, or addresses of this host'
complete -c runmonitor -l details -d 'Add to each row its remote ends, by protocol, port and interface (JSON)'
complete -c runmonitor -l resolve -d 'Show names of remote hosts and of ports instead of addresses and numbers, with --by and --top. Reverse look-ups ask the name servers of this host'
complete -c runmonitor -l top -d 'Show an interactive screen instead of lines; press ? there for its keys'
complete -c runmonitor -l unattributed -d 'Also show bytes without a known process, a line for each reason'
complete -c runmonitor -l enable-accounting -d 'Switch conntrack\'s accounting on in this network namespace, for flows that start later'
complete -c runmonitor -l check -d 'Report what each source can count here and how to fix what it can\'t, and exit'
complete -c runmonitor -s h -l help -d 'Print help (see more with \'--help\')'
complete -c runmonitor -s V -l version -d 'Print version'
