{{- define "svcdns.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "svcdns.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "svcdns.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "svcdns.deployment" -}}
{{- default (include "svcdns.fullname" .) .Values.deployment.name -}}
{{- end -}}

{{- define "svcdns.service" -}}
{{- default (include "svcdns.fullname" .) .Values.service.name -}}
{{- end -}}

{{/* Fails if an upgrade would delete the Service for DNS of this release, and create one with another name and address. */}}
{{- define "svcdns.sameService" -}}
{{- if and .Release.IsUpgrade .Values.isClusterService (not .Values.svcdns.renameService) -}}
{{- $name := include "svcdns.service" . -}}
{{- range (lookup "v1" "Service" .Release.Namespace "").items -}}
{{- $owner := get (default dict .metadata.annotations) "meta.helm.sh/release-name" -}}
{{- $ports := list -}}
{{- range .spec.ports }}{{ $ports = append $ports (int .port) }}{{ end -}}
{{- if and (eq $owner $.Release.Name) (ne .metadata.name $name) (has 53 $ports) -}}
{{- fail (printf "this upgrade would delete the Service %s with its address, and create the Service %s. Pass the values of the earlier command again, or --reset-then-reuse-values. If the change is intended, set svcdns.renameService=true" .metadata.name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "svcdns.configmap" -}}
{{- default (include "svcdns.fullname" .) .Values.configmap.name -}}
{{- end -}}

{{- define "svcdns.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "svcdns.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "svcdns.clusterRole" -}}
{{- default (include "svcdns.fullname" .) .Values.clusterRole.nameOverride -}}
{{- end -}}

{{- define "svcdns.k8sApp" -}}
{{- default (ternary "kube-dns" .Chart.Name .Values.isClusterService) .Values.k8sAppLabelOverride -}}
{{- end -}}

{{- define "svcdns.labels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ include "svcdns.name" . | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- if .Values.isClusterService }}
k8s-app: {{ include "svcdns.k8sApp" . | quote }}
kubernetes.io/cluster-service: "true"
kubernetes.io/name: "CoreDNS"
{{- end }}
{{- with .Values.customLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "svcdns.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ include "svcdns.name" . | quote }}
{{- if .Values.isClusterService }}
k8s-app: {{ include "svcdns.k8sApp" . | quote }}
{{- end }}
{{- end -}}

{{- define "svcdns.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* The text of the Corefile. */}}
{{- define "svcdns.corefile" -}}
{{- range $name, $line := .Values.extraConfig }}
{{ $name }}{{ with $line.parameters }} {{ . }}{{ end }}
{{- end }}
{{- range .Values.servers }}
{{- $port := .port }}
{{ range $number, $one := default (list (dict "zone" ".")) .zones }}{{ if $number }} {{ end }}{{ $one.scheme }}{{ $one.zone }}{{ with $port }}:{{ . }}{{ end }}{{ end }} {
{{- range .plugins }}
    {{ .name }}{{ if not (kindIs "invalid" .parameters) }} {{ .parameters }}{{ end }}{{ if .configBlock }} {
{{ .configBlock | indent 8 }}
    }{{ end }}
{{- end }}
}
{{- end }}
{{- end -}}

{{/* The ports of DNS, as YAML with one entry for each port and protocol: name, port, protocol, servicePort, nodePort,
hostPort. The order is that of CoreDNS's chart and of kubeadm, UDP first. Helm's merge of two lists in which a number
occurs twice loses a port if the order or the names differ. */}}
{{- define "svcdns.ports" -}}
{{- $found := dict -}}
{{- range .Values.servers -}}
{{- $server := . -}}
{{- $port := int (default 53 .port) -}}
{{- range default (list (dict "zone" ".")) .zones -}}
{{- $scheme := default "dns://" .scheme -}}
{{- $streamOnly := has $scheme (list "tls://" "https://" "grpc://") -}}
{{- if not $streamOnly -}}
{{- $_ := set $found (printf "%05d-0" $port) (dict "server" $server "protocol" "UDP" "port" $port) -}}
{{- end -}}
{{- if or $streamOnly (ne (toString .use_tcp) "false") -}}
{{- $_ := set $found (printf "%05d-1" $port) (dict "server" $server "protocol" "TCP" "port" $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key := keys $found | sortAlpha }}
{{- $one := get $found $key }}
{{- $name := printf "%s-%d" (lower $one.protocol) (int $one.port) }}
{{- if and $.Values.svcdns.kubeadmPorts (eq (int $one.port) 53) }}
{{- $name = ternary "dns" "dns-tcp" (eq $one.protocol "UDP") }}
{{- end }}
- name: {{ $name }}
  port: {{ $one.port }}
  protocol: {{ $one.protocol }}
  servicePort: {{ int (default $one.port $one.server.servicePort) }}
  {{- with $one.server.nodePort }}
  nodePort: {{ int . }}
  {{- end }}
  {{- with $one.server.hostPort }}
  hostPort: {{ int . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The port of a page: the number behind the last colon of the plugin's parameters, or the default. */}}
{{- define "svcdns.pagePort" -}}
{{- $default := .default -}}
{{- $port := "" -}}
{{- $name := .name -}}
{{- range .servers -}}
{{- range .plugins -}}
{{- if and (eq .name $name) (not $port) -}}
{{- $words := splitList ":" (toString (default "" .parameters)) -}}
{{- $port = ternary (last $words) (toString $default) (gt (len $words) 1) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $port -}}
{{- end -}}

{{/* "true" if a plugin is in any server block. */}}
{{- define "svcdns.hasPlugin" -}}
{{- $name := .name -}}
{{- range .servers -}}{{- range .plugins -}}{{- if eq .name $name -}}true{{- end -}}{{- end -}}{{- end -}}
{{- end -}}

{{/* The lines in the blocks of a plugin, of all server blocks. */}}
{{- define "svcdns.lines" -}}
{{- $name := .name -}}
{{- range .servers -}}{{- range .plugins -}}
{{- if eq .name $name }}
{{ default "" .configBlock }}
{{- end -}}
{{- end -}}{{- end -}}
{{- end -}}

{{/* "true" if the Corefile needs the watch of Pods. */}}
{{- define "svcdns.needsPods" -}}
{{- $kubernetes := include "svcdns.lines" (dict "servers" .Values.servers "name" "kubernetes") -}}
{{- $traffic := include "svcdns.lines" (dict "servers" .Values.servers "name" "traffic") -}}
{{- if or (regexMatch "(?m)^\\s*pods\\s+verified" $kubernetes) (regexMatch "(?m)^\\s*pods\\b" $traffic) -}}true{{- end -}}
{{- include "svcdns.hasPlugin" (dict "servers" .Values.servers "name" "visibility") -}}
{{- end -}}

{{/* The sidecar that loads the program for the kernel: docs/accelerator.md. */}}
{{- define "svcdns.accelerator" -}}
{{- if .Values.svcdns.accelerator.enabled -}}
{{- if .Values.hostNetwork -}}
{{- fail "svcdns.accelerator.enabled and hostNetwork exclude each other: the program belongs to the interface of a Pod" -}}
{{- end -}}
- name: accelerator
  image: {{ include "svcdns.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  {{- $user := (.Values.securityContext).runAsUser | default (.Values.podSecurityContext).runAsUser | default 65532 }}
  command: [svcdns, accelerate, --stay, --uid, {{ $user | int64 | quote }}]
  resources: {{- toYaml .Values.svcdns.accelerator.resources | nindent 4 }}
  {{- /* the interpreter in the image has the file capability NET_BIND_SERVICE, and does not start without it */}}
  {{- $capabilities := dict "add" (list "BPF" "NET_ADMIN" "NET_BIND_SERVICE") "drop" (list "ALL") }}
  {{- $context := dict "allowPrivilegeEscalation" false "capabilities" $capabilities "readOnlyRootFilesystem" true "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0 }}
  securityContext: {{- toYaml (merge (dict) (default (dict) .Values.svcdns.accelerator.securityContext) $context) | nindent 4 }}
{{- end -}}
{{- end -}}
