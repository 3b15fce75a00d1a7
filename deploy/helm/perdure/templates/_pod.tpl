{{/*
The template of a pod that runs `perdure`.

dict "root" . "component" "api" "args" (list "api" …) "needs" (list "kafka" "postgres") and, where there are any:
  "values"  of the component: resources, env, podTemplate, image, kafkaSecrets
  "env"     more environment, YAML
  "volumes", "mounts"  more of them, YAML
  "isJob"   it ends by itself: no probes, no ports, no sidecars
  "isHook"  it may run before the release's own ServiceAccount exists
  "optional" its Secrets may not exist yet
  "init"    containers that run before, a list of dicts with name, args and needs
  "startupSeconds", "graceSeconds"
*/}}
{{- define "perdure.pod" -}}
{{- $pod := include "perdure.basePod" . | fromYaml -}}
{{- range list .root.Values.podTemplate (.values.podTemplate | default dict) -}}
{{- $over := deepCopy . -}}
{{- if kindIs "map" $over.spec -}}
{{- range $key := list "initContainers" "containers" "volumes" -}}
{{- if kindIs "slice" (get $over.spec $key) -}}
{{- $both := dict "ours" (get $pod.spec $key | default list) "theirs" (get $over.spec $key) "by" "name" -}}
{{- $_ := set $over.spec $key (include "perdure.byName" $both | fromYamlArray) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $pod = mergeOverwrite $pod $over -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end -}}

{{/*
Two lists of maps as one, YAML: an item of "theirs" is merged into the one of "ours" with the same key, or comes after them. A container's own
lists are merged in the same way. dict "ours" "theirs" "by" (the key)
*/}}
{{- define "perdure.byName" -}}
{{- $by := .by -}}
{{- $found := list -}}
{{- $seen := dict -}}
{{- range .theirs -}}
{{- $_ := set $seen (get . $by) (deepCopy .) -}}
{{- end -}}
{{- $merged := dict -}}
{{- range .ours -}}
{{- $one := . -}}
{{- $name := get $one $by -}}
{{- if hasKey $seen $name -}}
{{- $over := get $seen $name -}}
{{- range $key, $inner := dict "env" "name" "ports" "name" "volumeMounts" "mountPath" -}}
{{- if and (kindIs "slice" (get $over $key)) (kindIs "slice" (get $one $key)) -}}
{{- $both := dict "ours" (get $one $key) "theirs" (get $over $key) "by" $inner -}}
{{- $_ := set $over $key (include "perdure.byName" $both | fromYamlArray) -}}
{{- end -}}
{{- end -}}
{{- if and (hasKey $over "value") (hasKey $one "valueFrom") }}{{ $one = omit $one "valueFrom" }}{{ end -}}
{{- if and (hasKey $over "valueFrom") (hasKey $one "value") }}{{ $one = omit $one "value" }}{{ end -}}
{{- $one = mergeOverwrite (deepCopy $one) $over -}}
{{- $_ := set $merged $name true -}}
{{- end -}}
{{- $found = append $found $one -}}
{{- end -}}
{{- range .theirs -}}
{{- if not (hasKey $merged (get . $by)) }}{{ $found = append $found . }}{{ end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "perdure.container" -}}
{{- $needs := dict "root" .root "values" .values "needs" .needs -}}
{{- $env := include "perdure.env" $needs | fromYamlArray -}}
{{- with .env }}{{ $env = concat $env (. | fromYamlArray) }}{{ end -}}
{{- with .values.env }}{{ $env = concat $env . }}{{ end -}}
- name: {{ .name }}
  image: {{ .image | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args: {{ .args | toJson }}
  env:
    {{- include "perdure.uniqueEnv" $env | nindent 4 }}
  securityContext:
    {{- include "perdure.containerSecurity" .root | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  {{- with .values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    {{- include "perdure.volumeMounts" $needs | nindent 4 }}
    {{- with .mounts }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "perdure.basePod" -}}
{{- $root := .root -}}
{{- $image := .values.image | default (include "perdure.image" $root) -}}
{{- $needs := .needs -}}
{{- range .init }}{{ $needs = concat $needs .needs }}{{ end -}}
metadata:
  labels:
    {{- include "perdure.labels" . | nindent 4 }}
  annotations:
    {{- if not .isJob }}
    checksum/config: {{ include "perdure.env" (dict "root" $root "values" .values "needs" $needs) | sha256sum }}
    {{- end }}
    {{- with $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    kubectl.kubernetes.io/default-container: perdure
spec:
  serviceAccountName: {{ ternary (include "perdure.hooksAccountName" $root) (include "perdure.serviceAccountName" $root) (.isHook | default false) }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "perdure.podSecurity" $root | nindent 4 }}
  {{- if .isJob }}
  restartPolicy: {{ .restartPolicy | default "Never" }}
  {{- else }}
  terminationGracePeriodSeconds: {{ add (int64 $root.Values.preStopSeconds) (int64 (ternary 10 .graceSeconds (kindIs "invalid" .graceSeconds))) 20 }}
  {{- if $root.Values.topologySpread.enabled }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "perdure.selector" . | nindent 10 }}
  {{- end }}
  {{- with $root.Values.podAntiAffinity }}
  {{- if ne . "none" }}
  affinity:
    podAntiAffinity:
      {{- if eq . "hard" }}
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "perdure.selector" $ | nindent 14 }}
      {{- else }}
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "perdure.selector" $ | nindent 16 }}
      {{- end }}
  {{- end }}
  {{- end }}
  {{- end }}
  {{- if or .init $root.Values.extraInitContainers }}
  initContainers:
    {{- with $root.Values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- range .init }}
    {{- $own := dict "resources" $.values.resources "kafkaSecrets" $.values.kafkaSecrets }}
    {{- include "perdure.container" (dict "root" $root "name" .name "image" $image "args" .args "env" .env "needs" .needs "values" $own) | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include "perdure.container" (dict "root" $root "name" "perdure" "image" $image "args" .args "env" .env "mounts" .mounts "needs" .needs "values" .values) | nindent 4 }}
      {{- if not .isJob }}
      ports:
        - name: metrics
          containerPort: {{ int64 $root.Values.metrics.port }}
        {{- if eq .component "api" }}
        - name: http
          containerPort: 8080
        {{- end }}
      {{- if $root.Values.preStopSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ int64 $root.Values.preStopSeconds }}
      {{- end }}
      startupProbe:
        httpGet: {path: /health/live, port: metrics}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: {{ div (.startupSeconds | default 120) 2 }}
      livenessProbe:
        httpGet: {path: /health/live, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /health/ready, port: metrics}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
    {{- with $root.Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
      {{- end }}
  volumes:
    {{- include "perdure.volumes" (dict "root" $root "values" .values "needs" $needs "optional" .optional) | nindent 4 }}
    {{- with .volumes }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Environment of a process that serves metrics and health, and whose topics have an owner. */}}
{{- define "perdure.served" -}}
- name: PERDURE_METRICS_PORT
  value: {{ int64 .Values.metrics.port | quote }}
- name: PERDURE_METRICS_HOST
  value: 0.0.0.0
- name: PERDURE_OWNER
  value: {{ include "perdure.owner" . | quote }}
{{- end -}}

{{- define "perdure.instance" -}}
- name: PERDURE_INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end -}}

{{/* Environment of a process that sends traces. */}}
{{- define "perdure.traces" -}}
{{- if .Values.traces.enabled }}
- name: PERDURE_TRACES
  value: "true"
{{- with .Values.traces.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}
